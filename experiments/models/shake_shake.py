"""Shake-Shake networks for CIFAR ("Shake-Shake regularization", Gastaldi, 2017), as ISDA's."""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm
from experiments.models.shakes import ShakeShake

# As in the ISDA authors' program; Gastaldi's has N(0, sqrt(2 / (size^2 filters))).
KERNEL = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Branch(nnx.Module):
    """ReLU before, and BatchNorm behind, each of two 3 x 3 convolutions."""

    def __init__(self, channels: int, filters: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = residual_conv(channels, filters, 3, stride, rngs, KERNEL)
        self.norm1 = residual_norm(filters, rngs)
        self.conv2 = residual_conv(filters, filters, 3, 1, rngs, KERNEL)
        self.norm2 = residual_norm(filters, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        h = self.norm1(self.conv1(nnx.relu(x)))
        return self.norm2(self.conv2(nnx.relu(h)))


class Skip(nnx.Module):
    """Two 1 x 1 convolutions of what ReLU leaves, side by side, and BatchNorm of both.

    The second sees every pixel's neighbour to the lower right, and zeros beyond the border; in
    Gastaldi's program, that to the upper left.
    """

    def __init__(self, channels: int, filters: int, stride: int, *, rngs: nnx.Rngs):
        half = filters // 2
        self.stride = stride
        self.conv1 = residual_conv(channels, half, 1, 1, rngs, KERNEL)
        self.conv2 = residual_conv(channels, filters - half, 1, 1, rngs, KERNEL)
        self.norm = residual_norm(filters, rngs)

    def paths(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What both convolutions see, [B, H / stride, W / stride, channels] each."""
        shifted = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
        step = slice(None, None, self.stride)
        return x[:, step, step], shifted[:, step, step]

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        first, second = self.paths(nnx.relu(x))
        return self.norm(jnp.concatenate([self.conv1(first), self.conv2(second)], axis=-1))


class ShakeBlock(nnx.Module):
    """Two branches, mixed by `ShakeShake`, and a shortcut, a `Skip` where the channels change."""

    def __init__(self, channels: int, filters: int, stride: int, number: int, *, rngs: nnx.Rngs):
        self.branch1 = Branch(channels, filters, stride, rngs=rngs)
        self.branch2 = Branch(channels, filters, stride, rngs=rngs)
        self.mix = ShakeShake(number, rngs=rngs)
        self.changes = stride != 1 or channels != filters
        # Without a change it is never called: the published numbers of parameters count it.
        self.skip = Skip(channels, filters, stride, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        skip = self.skip(x) if self.changes else x
        return skip + self.mix(self.branch1(x), self.branch2(x))


class ShakeShakeNet(nnx.Module):
    """Shake-Shake of two branches: three stages of 1, 2 and 4 times `width` filters; ReLU, mean.

    Of 6 n + 2 layers with weights, for n `blocks` a stage: 26 for 4. Layers for taps: "input",
    "stages.0", "stages.1", "stages.2", before the next ReLU. Its draws are those of
    `shakes.ShakeShake`. As in the ISDA authors' program, whose paper counts them, all blocks have
    the weights of a `Skip`: a fortieth of the parameters, which nothing but decay ever moves.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      width: filters of the first stage.
      blocks: in each stage.
      rngs: source of the initial parameters and of the draws.

    Example:
      `ShakeShakeNet((32, 32, 3), 10, width=96, rngs=nnx.Rngs(0))`, "Shake-Shake 26 2x96d"
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        width: int = 32,
        blocks: int = 4,
        rngs: nnx.Rngs,
    ):
        self.conv = layers.Conv(
            image_shape[-1], 16, (3, 3), padding="SAME", kernel_init=KERNEL, rngs=rngs
        )
        self.norm = residual_norm(16, rngs)
        stages, channels = [], 16
        for i in range(3):
            filters = width * 2**i
            parts = []
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                parts.append(ShakeBlock(channels, filters, stride, i * blocks + j, rngs=rngs))
                channels = filters
            stages.append(nnx.Sequential(*parts))
        self.stages = nnx.List(stages)
        self.head = layers.torch_linear(channels, classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = self.norm(self.conv(x))
        for stage in self.stages:
            x = stage(x)
        x = nnx.relu(x)
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))
