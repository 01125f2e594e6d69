"""ResNet-50 for ImageNet ("Deep Residual Learning for Image Recognition", He et al., 2016)."""

import jax
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4  # filters at a block's end, in filters of its middle


class Bottleneck(nnx.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 beside a shortcut, 1 x 1 where the shape changes."""

    def __init__(self, channels: int, filters: int, stride: int, *, rngs: nnx.Rngs):
        wide = EXPANSION * filters
        self.conv1 = residual_conv(channels, filters, 1, 1, rngs)
        self.norm1 = residual_norm(filters, rngs)
        self.conv2 = residual_conv(filters, filters, 3, stride, rngs)
        self.norm2 = residual_norm(filters, rngs)
        self.conv3 = residual_conv(filters, wide, 1, 1, rngs)
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


class ResNet50(nnx.Module):
    """Four stages of 3, 4, 6 and 3 bottleneck blocks, after a 7 x 7 convolution and max pooling.

    The stride of a stage is in its 3 x 3 convolution ("v1.5", as in torchvision and the ISDA
    authors' program); He et al. have it in the 1 x 1 before. Every BatchNorm starts with scale 1,
    the last of a block too. Layers for taps: "input", "stages.0" to "stages.3".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      rngs: source of the initial parameters.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, rngs: nnx.Rngs):
        self.conv = residual_conv(image_shape[-1], 64, 7, 2, rngs)
        self.norm = residual_norm(64, rngs)
        stages, channels = [], 64
        for i, blocks in enumerate(BLOCKS):
            filters = 64 * 2**i
            first = Bottleneck(channels, filters, 1 if i == 0 else 2, rngs=rngs)
            channels = EXPANSION * filters
            others = [Bottleneck(channels, filters, 1, rngs=rngs) for _ in range(blocks - 1)]
            stages.append(nnx.Sequential(first, *others))
        self.stages = nnx.List(stages)
        self.head = layers.Linear(channels, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = nnx.relu(self.norm(self.conv(x)))
        x = layers.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage in self.stages:
            x = stage(x)
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))
