"""MobileNetV2 ("MobileNetV2: Inverted Residuals and Linear Bottlenecks", Sandler et al., 2018)."""

from typing import Any

import jax
from flax import nnx

from experiments.models import layers
from experiments.models.applications import ConvNorm, check_size, pooled

# Table 2: expansion, channels, blocks, stride of the first one.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FEATURES = 1280


class InvertedResidual(nnx.Module):
    """Convolutions of 1 x 1, of 3 x 3 by channel, and of 1 x 1, beside the identity where it fits.

    The last has no activation: a linear bottleneck.

    Args:
      channels: of the input.
      filters: of the output.
      stride: of the 3 x 3 convolution.
      expansion: channels inside, for each one of the input; of 1, the first convolution is absent.
      momentum: of BatchNorm's averages.
      epsilon: of BatchNorm.
      padding: of the 3 x 3 convolution.
      dilation: of the 3 x 3 convolution.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        stride: int,
        *,
        expansion: int,
        momentum: float,
        epsilon: float = 1e-3,
        padding: layers.Padding = "SAME",
        dilation: int = 1,
        rngs: nnx.Rngs,
    ):
        inner, relu6 = expansion * channels, nnx.relu6
        own: dict[str, Any] = {"momentum": momentum, "epsilon": epsilon, "rngs": rngs}
        wide: dict[str, Any] = {"groups": inner, "padding": padding, "activation": relu6}
        parts = [
            ConvNorm(inner, inner, (3, 3), stride, dilation=dilation, **wide, **own),
            ConvNorm(inner, filters, (1, 1), **own),
        ]
        if expansion > 1:
            parts.insert(0, ConvNorm(channels, inner, (1, 1), activation=relu6, **own))
        self.parts = nnx.Sequential(*parts)
        self.residual = stride == 1 and channels == filters

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        h = self.parts(x)
        return x + h if self.residual else h


class MobileNetV2(nnx.Module):
    """Seventeen inverted residuals between a 3 x 3 and a 1 x 1 convolution, as in Keras or torch.

    Layers for taps: "input", "stem", "blocks.0" to "blocks.16", "last".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      width: factor of all channels, which are rounded to multiples of 8; those of the feature,
        1280, only grow.
      stem_stride: of the first convolution and of the first stage that has a stride. 2 as
        published, so that an image of 32 x 32 is one pixel in the end; with 1, as programs for
        CIFAR have it, 4 x 4.
      bn_momentum: share of BatchNorm's averages that stays in a step. With 0.999 they follow in
        thousands of steps, before which evaluation is at chance: 0.9 for short trainings, which
        is torch's.
      torch: whether, as in torchvision, a pixel is added on all sides before a 3 x 3 convolution
        and BatchNorm's epsilon is 1e-5; Keras adds one below and on the right of even sides where
        the stride is 2, and has 1e-3.
      rngs: source of the initial parameters.

    Raises:
      ValueError: the images are too small.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        width: float = 1.0,
        stem_stride: int = 2,
        bn_momentum: float = 0.999,
        torch: bool = False,
        rngs: nnx.Rngs,
    ):
        check_size("mobilenet_v2", image_shape, 8 * stem_stride**2)
        epsilon, padding = (1e-5, ((1, 1), (1, 1))) if torch else (1e-3, "SAME")
        own: dict[str, Any] = {"momentum": bn_momentum, "epsilon": epsilon, "rngs": rngs}
        padded: dict[str, Any] = {"padding": padding, **own}
        channels = rounded(32 * width)
        self.stem = ConvNorm(
            image_shape[-1], channels, (3, 3), stem_stride, activation=nnx.relu6, **padded
        )
        blocks = []
        for i, (expansion, filters, number, stride) in enumerate(STAGES):
            strides = (stem_stride if i == 1 else stride, *[1] * (number - 1))
            for each in strides:
                wide = rounded(int(filters * width))
                blocks.append(InvertedResidual(channels, wide, each, expansion=expansion, **padded))
                channels = wide
        self.blocks = nnx.List(blocks)
        features = rounded(FEATURES * max(width, 1.0))
        self.last = ConvNorm(channels, features, (1, 1), activation=nnx.relu6, **own)
        self.head = layers.Linear(features, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(pooled(self.last(x)))


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and no more than a tenth below.

    Example:
      `rounded(11.2) == 16`, since 8 would be less than nine tenths
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
