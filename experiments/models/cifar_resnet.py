"""The ResNets for CIFAR, as ISDA trains them ("Deep Residual Learning", He et al., 2016, 4.2)."""

import jax
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm

STAGES = ((16, 1), (32, 2), (64, 2))  # filters, stride


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions, and a shortcut, 1 x 1 where the shape changes; ReLU comes last."""

    def __init__(self, channels: int, filters: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = residual_conv(channels, filters, 3, stride, rngs)
        self.norm1 = residual_norm(filters, rngs)
        self.conv2 = residual_conv(filters, filters, 3, 1, rngs)
        self.norm2 = residual_norm(filters, rngs)
        self.project = stride != 1 or channels != filters
        if self.project:
            self.shortcut = residual_conv(channels, filters, 1, stride, rngs)
            self.shortcut_norm = residual_norm(filters, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        h = nnx.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return nnx.relu(h + (self.shortcut_norm(self.shortcut(x)) if self.project else x))


class CifarResNet(nnx.Module):
    """Three stages of basic blocks with 16, 32 and 64 filters, strides 1, 2 and 2.

    The shortcuts that change the shape are 1 x 1 convolutions with BatchNorm, as in the ISDA
    authors' program; He et al. subsample and pad with zeros. Layers for taps: "input", "stages.0",
    "stages.1", "stages.2".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      depth: 6 n + 2 layers with weights, for n blocks a stage.
      rngs: source of the initial parameters.

    Raises:
      ValueError: the depth is not 6 n + 2.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int, *, depth: int, rngs: nnx.Rngs
    ):
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"a ResNet for CIFAR has 6 n + 2 layers, not {depth}.")
        self.conv = residual_conv(image_shape[-1], 16, 3, 1, rngs)
        self.norm = residual_norm(16, rngs)
        stages, channels = [], 16
        for filters, stride in STAGES:
            first = BasicBlock(channels, filters, stride, rngs=rngs)
            others = [BasicBlock(filters, filters, 1, rngs=rngs) for _ in range(blocks - 1)]
            stages.append(nnx.Sequential(first, *others))
            channels = filters
        self.stages = nnx.List(stages)
        self.head = layers.Linear(channels, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = nnx.relu(self.norm(self.conv(x)))
        for stage in self.stages:
            x = stage(x)
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))
