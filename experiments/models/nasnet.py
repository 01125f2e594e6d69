"""NASNet-A for small devices, as in Keras: 4 @ 1056, without auxiliary head.

"Learning Transferable Architectures for Scalable Image Recognition" (Zoph et al., 2018), Figure 4.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.applications import ConvNorm, check_size, depthwise, mean_around, pooled

STEM, FILTERS, REPEATS = 32, 44, 4
HE = nnx.initializers.he_normal()


class Separable(nnx.Module):
    """ReLU, a depthwise and a 1 x 1 convolution and BatchNorm; twice, the first with the stride."""

    def __init__(self, channels: int, filters: int, size: int, stride: int = 1, **own: Any):
        plan = ((channels, stride), (filters, 1))
        self.depthwise = nnx.List([depthwise(k, size, s, own["rngs"]) for k, s in plan])
        self.pointwise = nnx.List([ConvNorm(k, filters, (1, 1), **own) for k, _ in plan])

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        for spatial, mixing in zip(self.depthwise, self.pointwise, strict=True):
            x = mixing(spatial(nnx.relu(x)))
        return x


class Squeeze(nnx.Module):
    """ReLU, a 1 x 1 convolution and BatchNorm."""

    def __init__(self, channels: int, filters: int, **own: Any):
        self.conv = ConvNorm(channels, filters, (1, 1), kernel_init=HE, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, filters] of x [B, H, W, channels]."""
        return self.conv(nnx.relu(x))


class Halve(nnx.Module):
    """ReLU, every second pixel beside those one further on, each by a 1 x 1 convolution, BatchNorm.

    Beyond the bottom and the right there are zeros.
    """

    def __init__(self, channels: int, filters: int, *, momentum: float, rngs: nnx.Rngs):
        self.convs = nnx.List(
            [
                layers.Conv(
                    channels, filters // 2, (1, 1), use_bias=False, kernel_init=HE, rngs=rngs
                )
                for _ in range(2)
            ]
        )
        self.norm = layers.BatchNorm(filters, momentum=momentum, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H / 2, W / 2, filters] of x [B, H, W, channels]."""
        x = nnx.relu(x)
        further = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
        halves = zip(self.convs, (x, further), strict=True)
        return self.norm(jnp.concatenate([conv(each[:, ::2, ::2]) for conv, each in halves], -1))


class Cell(nnx.Module):
    """What both cells begin with: the input and the one before, both of `filters` channels.

    Args:
      channels: of the input x.
      before: of the input p of the cell before, or 0 where there is none.
      halved: whether p has twice the height and width of x.
      filters: of each branch.
      own: BatchNorm's momentum, and the source of the initial parameters.
    """

    def __init__(self, channels: int, before: int, halved: bool, filters: int, **own: Any):
        self.squeeze = Squeeze(channels, filters, **own)
        adjust = Halve if halved else Squeeze
        self.adjust = adjust(before, filters, **own) if before else None

    def begin(self, x: jax.Array, p: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Both, [B, H, W, filters]; without p, x as it is in the place of the second."""
        return self.squeeze(x), x if self.adjust is None or p is None else self.adjust(p)


class NormalCell(Cell):
    """A cell that keeps height and width: 6 `filters` channels."""

    def __init__(self, channels: int, before: int, halved: bool, filters: int, **own: Any):
        super().__init__(channels, before, halved, filters, **own)
        sizes = (5, 3, 5, 3, 3)
        self.branches = nnx.List([Separable(filters, filters, size, **own) for size in sizes])

    def __call__(self, x: jax.Array, p: jax.Array | None) -> jax.Array:
        """Features [B, H, W, 6 filters] of x [B, H, W, channels] and the input before."""
        h, p = self.begin(x, p)
        first, second, third, fourth, fifth = self.branches
        around = mean_around(p)
        sums = first(h) + second(p), third(p) + fourth(p), mean_around(h) + p, around + around
        return jnp.concatenate([p, *sums, fifth(h) + h], -1)


class ReductionCell(Cell):
    """A cell that halves height and width: 4 `filters` channels."""

    def __init__(self, channels: int, before: int, halved: bool, filters: int, **own: Any):
        super().__init__(channels, before, halved, filters, **own)
        of_p = filters if before else channels
        plan = ((filters, 5), (of_p, 7), (of_p, 7), (of_p, 5))
        self.branches = nnx.List([Separable(k, filters, size, 2, **own) for k, size in plan])
        self.last = Separable(filters, filters, 3, **own)

    def __call__(self, x: jax.Array, p: jax.Array | None) -> jax.Array:
        """Features [B, H / 2, W / 2, 4 filters] of x [B, H, W, channels] and the input before."""
        h, p = self.begin(x, p)
        first, second, third, fourth = self.branches
        # The zeros around are pixels like all others, to the maximum and to the mean.
        edges = jax.lax.padtype_to_pads(h.shape[1:3], (3, 3), (2, 2), "SAME")
        h3 = jnp.pad(h, ((0, 0), *edges, (0, 0)))
        largest = layers.max_pool(h3, (3, 3), (2, 2))
        x1 = first(h) + second(p)
        x2 = largest + third(p)
        x3 = layers.avg_pool(h3, (3, 3), (2, 2)) + fourth(p)
        return jnp.concatenate([x2, x3, x2 + mean_around(x1), self.last(x1) + largest], -1)


class NASNetMobile(nnx.Module):
    """Sixteen cells after a 3 x 3 convolution: R R, then three times four N, with R between them.

    An image of 32 x 32 is one pixel in the end. Layers for taps: "input", "stem", "cells.0" to
    "cells.15".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      bn_momentum: share of BatchNorm's averages that stays in a step. With 0.9997 they follow in
        ten thousands of steps, before which evaluation is at chance: 0.9 for short trainings.
      rngs: source of the initial parameters.

    Raises:
      ValueError: the images are too small.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        bn_momentum: float = 0.9997,
        rngs: nnx.Rngs,
    ):
        check_size("nasnet_mobile", image_shape, 32)
        own: dict[str, Any] = {"momentum": bn_momentum, "rngs": rngs}
        self.stem = ConvNorm(
            image_shape[-1], STEM, (3, 3), 2, padding="VALID", kernel_init=HE, **own
        )
        cells: list[Cell] = []
        channels, before, halved = STEM, 0, False
        for kind, filters in _plan():
            cells.append(kind(channels, before, halved, filters, **own))
            channels, before = (6 if kind is NormalCell else 4) * filters, channels
            halved = kind is ReductionCell
        self.cells = nnx.List(cells)
        self.head = layers.Linear(channels, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x, before = self.stem(x), None
        for cell in self.cells:
            x, before = cell(x, before), x
        return self.head(pooled(nnx.relu(x)))


def _plan() -> Iterator[tuple[type[Cell], int]]:
    yield ReductionCell, FILTERS // 4
    yield ReductionCell, FILTERS // 2
    for stage in range(3):
        filters = FILTERS * 2**stage
        if stage:
            yield ReductionCell, filters
        yield from [(NormalCell, filters)] * REPEATS
