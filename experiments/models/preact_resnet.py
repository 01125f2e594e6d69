"""Pre-activation ResNets ("Identity Mappings in Deep Residual Networks", He et al., 2016).

PreActResNet-18, which Noisy Feature Mixup trains on CIFAR-10 and, twice as wide, on CIFAR-100, and
Wide ResNets ("Wide Residual Networks", Zagoruyko & Komodakis, 2016), which are of the same blocks.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm


def _convolution(as_in_program: bool) -> Callable[..., nnx.Conv]:
    """A block's convolution, as `residual_conv`, in the program from torch's default kernel."""
    init = layers.TORCH if as_in_program else layers.RESIDUAL
    return functools.partial(residual_conv, kernel_init=init)


def _between(low: float, high: float) -> nnx.Initializer:
    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, low, high)

    return init


class PreActBlock(nnx.Module):
    """BatchNorm and ReLU before each of two 3 x 3 convolutions, beside a shortcut.

    The shortcut is `x`, or where the shape changes a 1 x 1 convolution of the first ReLU's output.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        stride: int,
        *,
        dropout: float,
        as_in_program: bool,
        rngs: nnx.Rngs,
    ):
        conv = _convolution(as_in_program)
        self.norm1 = residual_norm(channels, rngs)
        self.conv1 = conv(channels, filters, 3, stride, rngs)
        self.norm2 = residual_norm(filters, rngs)
        self.conv2 = conv(filters, filters, 3, 1, rngs)
        self.project = stride != 1 or channels != filters
        if self.project:
            self.shortcut = conv(channels, filters, 1, stride, rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.activated_skip = as_in_program

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        h = nnx.relu(self.norm1(x))
        skip = self.shortcut(h) if self.project else h if self.activated_skip else x
        h = nnx.relu(self.norm2(self.conv1(h)))
        h = h if self.dropout is None else self.dropout(h)
        return skip + self.conv2(h)


class PreActResNet(nnx.Module):
    """Stages of pre-activation blocks after a 3 x 3 convolution, a linear layer after the mean.

    Layers for taps: "input", "stages.0", "stages.1", ...

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      stem: filters of the first convolution.
      filters: of each stage; the first has stride 1, the others 2.
      blocks: in each stage.
      dropout: rate between the convolutions of a block.
      as_in_program: whether, as in the authors' program of Noisy Feature Mixup, every shortcut
        starts after the first ReLU, no BatchNorm and ReLU come before the mean, and training
        begins from torch's default parameters, of less than half the deviation.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        stem: int,
        filters: Sequence[int],
        blocks: int,
        dropout: float = 0.0,
        as_in_program: bool = False,
        rngs: nnx.Rngs,
    ):
        self.conv = _convolution(as_in_program)(image_shape[-1], stem, 3, 1, rngs)
        block = functools.partial(
            PreActBlock, dropout=dropout, as_in_program=as_in_program, rngs=rngs
        )
        stages, channels = [], stem
        for i, width in enumerate(filters):
            first = block(channels, width, 1 if i == 0 else 2)
            others = [block(width, width, 1) for _ in range(blocks - 1)]
            stages.append(nnx.Sequential(first, *others))
            channels = width
        self.stages = nnx.List(stages)
        self.norm = None if as_in_program else residual_norm(channels, rngs)
        own: dict[str, Any] = {}
        if as_in_program:
            edge = channels**-0.5
            own = {"kernel_init": layers.TORCH, "bias_init": _between(-edge, edge)}
        self.head = layers.Linear(channels, classes, rngs=rngs, **own)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = self.conv(x)
        for stage in self.stages:
            x = stage(x)
        x = x if self.norm is None else nnx.relu(self.norm(x))
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))


def preact_resnet18(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 64,
    as_in_program: bool = False,
    rngs: nnx.Rngs,
) -> PreActResNet:
    """PreActResNet-18: four stages of two blocks with 1, 2, 4 and 8 times `width` filters."""
    return PreActResNet(
        image_shape,
        classes,
        stem=width,
        filters=[width * 2**i for i in range(4)],
        blocks=2,
        as_in_program=as_in_program,
        rngs=rngs,
    )


def wide_resnet28(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 10,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> PreActResNet:
    """WRN-28-`width`: three stages of four blocks with 16, 32 and 64 times `width` filters."""
    return PreActResNet(
        image_shape,
        classes,
        stem=16,
        filters=[16 * width * 2**i for i in range(3)],
        blocks=4,
        dropout=dropout,
        rngs=rngs,
    )
