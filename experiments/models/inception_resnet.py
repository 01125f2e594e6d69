"""Inception-ResNet-v2, as in Keras.

"Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning" (Szegedy et al.,
2017).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.applications import ConvNorm, check_size, mean_around, pooled

# A convolution: filters, the kernel's side or height and width, stride; those with one are VALID.
Step = tuple[int, int | tuple[int, int]] | tuple[int, int, int]
Branches = Sequence[Sequence[Step]]

FIRST: Branches = (((96, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3)))
SECOND: Branches = (((384, 3, 2),), ((256, 1), (256, 3), (384, 3, 2)))
THIRD: Branches = (
    ((256, 1), (384, 3, 2)),
    ((256, 1), (288, 3, 2)),
    ((256, 1), (288, 3), (320, 3, 2)),
)
OF_35: Branches = (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3)))
OF_17: Branches = (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))
OF_8: Branches = (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))


def _convolved(
    channels: int, filters: int, size: int | tuple[int, int], stride: int = 1, **own: Any
) -> ConvNorm:
    pair = (size, size) if isinstance(size, int) else size
    options = {"padding": "VALID" if stride > 1 else "SAME"} | own
    activated: dict[str, Any] = {"scale": False, "activation": nnx.relu} | options
    return ConvNorm(channels, filters, pair, stride, **activated)


def _branches(channels: int, plan: Branches, own: dict[str, Any]) -> nnx.List:
    branches = []
    for steps in plan:
        inputs = [channels, *(step[0] for step in steps)]
        convolutions = (_convolved(k, *step, **own) for k, step in zip(inputs, steps, strict=False))
        branches.append(nnx.Sequential(*convolutions))
    return nnx.List(branches)


def _width(plan: Branches) -> int:
    return sum(steps[-1][0] for steps in plan)


class Mixed(nnx.Module):
    """Branches side by side, and one of a pool.

    Args:
      channels: of the input.
      plan: the branches.
      pool: of the last branch.
      pooled_filters: of a 1 x 1 convolution after the pool, or 0 for none.
      own: BatchNorm's momentum, and the source of the initial parameters.
    """

    def __init__(
        self,
        channels: int,
        plan: Branches,
        pool: Callable[[jax.Array], jax.Array],
        pooled_filters: int = 0,
        **own: Any,
    ):
        self.branches = _branches(channels, plan, own)
        self.pool = pool
        self.after = _convolved(channels, pooled_filters, 1, **own) if pooled_filters else None
        self.filters = _width(plan) + (pooled_filters or channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H', W', filters] of x [B, H, W, channels]."""
        last = self.pool(x)
        last = last if self.after is None else self.after(last)
        return jnp.concatenate([*(branch(x) for branch in self.branches), last], -1)


class Residual(nnx.Module):
    """Branches, joined and brought back to the input's channels by 1 x 1, a part of which is added.

    Args:
      channels: of the input and the output.
      plan: the branches.
      part: factor of what is added.
      activated: whether a ReLU follows.
      own: BatchNorm's momentum, and the source of the initial parameters.
    """

    def __init__(
        self, channels: int, plan: Branches, part: float, activated: bool = True, **own: Any
    ):
        self.branches = _branches(channels, plan, own)
        self.up = layers.Conv(_width(plan), channels, (1, 1), rngs=own["rngs"])
        self.part, self.activated = part, activated

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, channels] of x [B, H, W, channels]."""
        x = x + self.part * self.up(jnp.concatenate([each(x) for each in self.branches], -1))
        return nnx.relu(x) if self.activated else x


class InceptionResNetV2(nnx.Module):
    """Three stages of residual Inception blocks: 10 of 35 x 35, 20 of 17 x 17, 10 of 8 x 8.

    These are their sizes for images of 299 x 299. Layers for taps: "input", "stem", "stages.0" to
    "stages.2", "last".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      bn_momentum: share of BatchNorm's averages that stays in a step.
      rngs: source of the initial parameters.

    Raises:
      ValueError: the images are too small.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        bn_momentum: float = 0.99,
        rngs: nnx.Rngs,
    ):
        check_size("inception_resnet_v2", image_shape, 75)
        own: dict[str, Any] = {"momentum": bn_momentum, "rngs": rngs}
        self.stem = _stem(image_shape[-1], own)
        first = Mixed(192, FIRST, mean_around, 64, **own)
        second = Mixed(first.filters, SECOND, _overlapping_max, **own)
        third = Mixed(second.filters, THIRD, _overlapping_max, **own)
        last = Residual(third.filters, OF_8, 1.0, activated=False, **own)
        self.stages = nnx.List(
            [
                _stage(first, 10, OF_35, 0.17, own),
                _stage(second, 20, OF_17, 0.1, own),
                nnx.Sequential(*_stage(third, 9, OF_8, 0.2, own).layers, last),
            ]
        )
        self.last = _convolved(third.filters, 1536, 1, **own)
        self.head = layers.Linear(1536, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(pooled(self.last(x)))


def _overlapping_max(x: jax.Array) -> jax.Array:
    return layers.max_pool(x, (3, 3), (2, 2))


def _stem(channels: int, own: dict[str, Any]) -> nnx.Sequential:
    valid = own | {"padding": "VALID"}
    return nnx.Sequential(
        _convolved(channels, 32, 3, 2, **own),
        _convolved(32, 32, 3, **valid),
        _convolved(32, 64, 3, **own),
        _overlapping_max,
        _convolved(64, 80, 1, **valid),
        _convolved(80, 192, 3, **valid),
        _overlapping_max,
    )


def _stage(
    mixed: Mixed, number: int, plan: Branches, part: float, own: dict[str, Any]
) -> nnx.Sequential:
    blocks = (Residual(mixed.filters, plan, part, **own) for _ in range(number))
    return nnx.Sequential(mixed, *blocks)
