"""Pre-activation ResNets ("Identity Mappings in Deep Residual Networks", He et al., 2016).

PreActResNet-18, which Noisy Feature Mixup trains on CIFAR-10 and, twice as wide, on CIFAR-100, and
Wide ResNets ("Wide Residual Networks", Zagoruyko & Komodakis, 2016), which are of the same blocks.
"""

import functools
from collections.abc import Callable, Sequence

import jax
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm


def _convolution(as_in_program: bool) -> Callable[..., nnx.Conv]:
    """A block's convolution, as `residual_conv`, in the program from torch's default kernel."""
    init = layers.TORCH if as_in_program else layers.RESIDUAL
    return functools.partial(residual_conv, kernel_init=init)


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
      torch_head: whether the linear layer starts from torch's default parameters.
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
        torch_head: bool = False,
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
        linear = layers.torch_linear if torch_head or as_in_program else layers.Linear
        self.head = linear(channels, classes, rngs=rngs)

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


def wide_resnet(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    depth: int = 28,
    width: int = 10,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> PreActResNet:
    """WRN-`depth`-`width`: three stages with 16, 32 and 64 times `width` filters.

    As in the ISDA authors' program, the linear layer starts as torch's does.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      depth: 6 n + 4 layers with weights, for n blocks a stage.
      width: times as many filters as in a ResNet for CIFAR.
      dropout: rate between the convolutions of a block; ISDA's is 0.3.
      rngs: source of the initial parameters.

    Raises:
      ValueError: the depth is not 6 n + 4.
    """
    blocks, rest = divmod(depth - 4, 6)
    if blocks < 1 or rest:
        raise ValueError(f"a wide ResNet has 6 n + 4 layers, not {depth}.")
    return PreActResNet(
        image_shape,
        classes,
        stem=16,
        filters=[16 * width * 2**i for i in range(3)],
        blocks=blocks,
        dropout=dropout,
        torch_head=True,
        rngs=rngs,
    )
