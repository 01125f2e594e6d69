"""ResNets and ResNeXts for ImageNet, and a ResNeXt for CIFAR.

"Deep Residual Learning for Image Recognition" (He et al., 2016) and "Aggregated Residual
Transformations for Deep Neural Networks" (Xie et al., 2017).
"""

import functools
from collections.abc import Sequence

import jax
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm

# Depth: blocks of each stage.
IMAGENET = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4  # filters at a block's end, for each one that the stage is named by


class Bottleneck(nnx.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 beside a shortcut, 1 x 1 where the shape changes.

    Args:
      channels: of the input.
      filters: a quarter of those of the output.
      stride: of the 3 x 3 convolution.
      groups: of the 3 x 3 convolution.
      inner: filters of the first two convolutions; `filters` if None.
      dilation: of the 3 x 3 convolution.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        stride: int,
        *,
        groups: int = 1,
        inner: int | None = None,
        dilation: int = 1,
        rngs: nnx.Rngs,
    ):
        narrow, wide = inner or filters, EXPANSION * filters
        self.conv1 = residual_conv(channels, narrow, 1, 1, rngs)
        self.norm1 = residual_norm(narrow, rngs)
        self.conv2 = residual_conv(
            narrow, narrow, 3, stride, rngs, groups=groups, dilation=dilation
        )
        self.norm2 = residual_norm(narrow, rngs)
        self.conv3 = residual_conv(narrow, wide, 1, 1, rngs)
        self.norm3 = residual_norm(wide, rngs)
        self.project = stride != 1 or channels != wide
        if self.project:
            self.shortcut = residual_conv(channels, wide, 1, stride, rngs)
            self.shortcut_norm = residual_norm(wide, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, 4 filters] of x [B, H, W, channels]."""
        h = nnx.relu(self.norm1(self.conv1(x)))
        h = nnx.relu(self.norm2(self.conv2(h)))
        h = self.norm3(self.conv3(h))
        return nnx.relu(h + (self.shortcut_norm(self.shortcut(x)) if self.project else x))


class DeepStem(nnx.Module):
    """Three 3 x 3 convolutions, the first of stride 2, in the place of one of 7 x 7."""

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs):
        shapes = ((channels, width, 2), (width, width, 1), (width, 2 * width, 1))
        self.convs = nnx.List([residual_conv(a, b, 3, s, rngs) for a, b, s in shapes])
        self.norms = nnx.List([residual_norm(b, rngs) for _, b, _ in shapes])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / 2, W / 2, 2 width] of images x [B, H, W, K]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x)))
        return x


class ResNet(nnx.Module):
    """Four stages of bottleneck blocks, after a 7 x 7 convolution and max pooling.

    The stride of a stage is in its 3 x 3 convolution ("v1.5", as in torchvision and the ISDA
    authors' program); He et al. have it in the 1 x 1 before. Every BatchNorm starts with scale 1,
    the last of a block too, and the linear layer as torch's does. Layers for taps: "input",
    "stages.0" to "stages.3".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      depth: 50, 101 or 152 layers with weights.
      groups: of the 3 x 3 convolutions: ResNeXt's cardinality.
      group_width: filters of a group in the first stage, twice as many in each later one.
      deep: whether three 3 x 3 convolutions take the place of the one of 7 x 7, as in the backbones
        of segmentation (`dilated.py`), which start from such a network's weights.
      rngs: source of the initial parameters.

    Raises:
      ValueError: there is no such depth.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int,
        groups: int = 1,
        group_width: int = 64,
        deep: bool = False,
        rngs: nnx.Rngs,
    ):
        if depth not in IMAGENET:
            known = ", ".join(map(str, IMAGENET))
            raise ValueError(f"a ResNet for ImageNet has one of {known} layers, not {depth}.")
        self.deep = deep
        if deep:
            self.stem = DeepStem(image_shape[-1], 64, rngs=rngs)
        else:
            self.conv = residual_conv(image_shape[-1], 64, 7, 2, rngs)
            self.norm = residual_norm(64, rngs)
        channels = 128 if deep else 64
        self.stages = _stages(IMAGENET[depth], channels, groups, group_width, rngs)
        self.head = layers.torch_linear(64 * 2**3 * EXPANSION, classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = self.stem(x) if self.deep else nnx.relu(self.norm(self.conv(x)))
        x = layers.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage in self.stages:
            x = stage(x)
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))


class CifarResNeXt(nnx.Module):
    """Three stages of bottleneck blocks after a 3 x 3 convolution of 64 filters.

    Every stage's first shortcut is a 1 x 1 convolution with BatchNorm, and, as in the ISDA authors'
    program, the linear layer starts as torch's does. Layers for taps: "input", "stages.0" to
    "stages.2".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      depth: 9 n + 2 layers with weights, for n blocks a stage.
      groups: of the 3 x 3 convolutions: the cardinality.
      group_width: filters of a group in the first stage, twice as many in each later one.
      rngs: source of the initial parameters.

    Raises:
      ValueError: the depth is not 9 n + 2.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int = 29,
        groups: int = 8,
        group_width: int = 64,
        rngs: nnx.Rngs,
    ):
        blocks, rest = divmod(depth - 2, 9)
        if blocks < 1 or rest:
            raise ValueError(f"a ResNeXt for CIFAR has 9 n + 2 layers, not {depth}.")
        self.conv = residual_conv(image_shape[-1], 64, 3, 1, rngs)
        self.norm = residual_norm(64, rngs)
        self.stages = _stages(3 * (blocks,), 64, groups, group_width, rngs)
        self.head = layers.torch_linear(64 * 2**2 * EXPANSION, classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = nnx.relu(self.norm(self.conv(x)))
        for stage in self.stages:
            x = stage(x)
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))


def _stages(
    blocks: Sequence[int], channels: int, groups: int, group_width: int, rngs: nnx.Rngs
) -> nnx.List:
    stages = []
    for i, number in enumerate(blocks):
        inner = groups * group_width * 2**i
        block = functools.partial(Bottleneck, groups=groups, inner=inner, rngs=rngs)
        filters = 64 * 2**i
        first = block(channels, filters, 1 if i == 0 else 2)
        channels = EXPANSION * filters
        others = (block(channels, filters, 1) for _ in range(number - 1))
        stages.append(nnx.Sequential(first, *others))
    return nnx.List(stages)
