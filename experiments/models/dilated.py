"""Networks that see an image at an eighth of its size: backbones of dense predictions.

Their last stages have gaps in their kernels in the place of strides, as in "Pyramid Scene Parsing
Network" (Zhao et al., 2017) and "Rethinking Atrous Convolution for Semantic Image Segmentation"
(Chen et al., 2017).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from experiments.models import layers
from experiments.models.applications import ConvNorm
from experiments.models.cifar_resnet import BasicBlock
from experiments.models.mobilenet import STAGES, InvertedResidual, rounded
from experiments.models.resnet import EXPANSION, IMAGENET, Bottleneck, DeepStem

BLOCKS = {18: (2, 2, 2, 2), 50: IMAGENET[50], 101: IMAGENET[101]}
STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)
PUBLISHED = 64  # the first stage's filters


class DilatedResNet(nnx.Module):
    """The stages of a ResNet, at an eighth of the image's size from the second on.

    All is named as in `ResNet` with a deep stem, whose weights it may take.

    Args:
      channels: of the images.
      depth: 18 (basic blocks), 50 or 101 (bottlenecks).
      width: filters of the first stage, 64 as published.
      rngs: source of the initial parameters.
    """

    def __init__(self, channels: int, *, depth: int, width: int = PUBLISHED, rngs: nnx.Rngs):
        self.stem = DeepStem(channels, width, rngs=rngs)
        block: Callable[..., nnx.Module] = Bottleneck if depth > 18 else BasicBlock
        expansion = EXPANSION if depth > 18 else 1
        stages, inside = [], 2 * width
        for i, (number, stride, gap) in enumerate(
            zip(BLOCKS[depth], STRIDES, DILATIONS, strict=True)
        ):
            made = functools.partial(block, dilation=gap, rngs=rngs)
            filters = width * 2**i
            first = made(inside, filters, stride)
            inside = expansion * filters
            stages.append(
                nnx.Sequential(first, *(made(inside, filters, 1) for _ in range(number - 1)))
            )
        self.stages = nnx.List(stages)
        self.widths = (inside // 2, inside)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the third stage and the fourth make of images x [B, H, W, K]."""
        x = self.stem(x)
        # As torch's ceil_mode: the last pixel of an even side has a window of its own.
        edges = [(1, 1 + (n + 1) % 2) for n in x.shape[1:3]]
        x = layers.max_pool(x, (3, 3), (2, 2), edges)
        *first, third, fourth = self.stages
        for stage in first:
            x = stage(x)
        x = third(x)
        return x, fourth(x)


class DilatedMobileNet(nnx.Module):
    """The inverted residuals of MobileNetV2, at an eighth of the image's size from the third on.

    Args:
      channels: of the images.
      width: 64 as published, of which all channels are a multiple.
      rngs: source of the initial parameters.
    """

    def __init__(self, channels: int, *, width: int = PUBLISHED, rngs: nnx.Rngs):
        own: dict[str, Any] = {"momentum": 0.9, "rngs": rngs}
        inside, size, gap, stages = rounded(32 * width / PUBLISHED), 2, 1, []
        self.stem = ConvNorm(channels, inside, (3, 3), 2, activation=nnx.relu6, **own)
        widths = []
        for expansion, filters, number, stride in STAGES:
            if size == 8:
                gap, stride = gap * stride, 1
            size, blocks = size * stride, []
            for i in range(number):
                wide = rounded(int(filters * width / PUBLISHED))
                each = stride if i == 0 else 1
                blocks.append(
                    InvertedResidual(inside, wide, each, expansion=expansion, dilation=gap, **own)
                )
                inside = wide
            stages.append(nnx.Sequential(*blocks))
            widths.append(inside)
        self.stages = nnx.List(stages)
        self.widths = (widths[4], widths[6])

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the fifth stage and the seventh make of images x [B, H, W, K]."""
        x = self.stem(x)
        for stage in self.stages[:5]:
            x = stage(x)
        fifth = x
        for stage in self.stages[5:]:
            x = stage(x)
        return fifth, x


BACKBONES: dict[str, Callable[..., Any]] = {
    **{f"resnet{depth}": functools.partial(DilatedResNet, depth=depth) for depth in BLOCKS},
    "mobilenet_v2": DilatedMobileNet,
}
