"""PyramidNets with ShakeDrop for CIFAR, as in the ISDA authors' program.

The network is of "Deep Pyramidal Residual Networks" (Han et al., 2017), the draws of "ShakeDrop
regularization for deep residual learning" (Yamada et al., 2019).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm
from experiments.models.shakes import ShakeDrop

EXPANSION = 4  # filters at a block's end, in filters of its middle


class PyramidBlock(nnx.Module):
    """BatchNorm, then convolutions of 1 x 1, 3 x 3 and 1 x 1 with BatchNorm behind each.

    ReLU comes before all but the first convolution. The shortcut has no weights: means of 2 x 2
    pixels where there is a stride, and zeros for the channels that `x` has not.
    """

    def __init__(self, channels: int, filters: int, stride: int, drop: ShakeDrop, rngs: nnx.Rngs):
        wide = EXPANSION * filters
        self.norm1 = residual_norm(channels, rngs)
        self.conv1 = residual_conv(channels, filters, 1, 1, rngs)
        self.norm2 = residual_norm(filters, rngs)
        self.conv2 = residual_conv(filters, filters, 3, stride, rngs)
        self.norm3 = residual_norm(filters, rngs)
        self.conv3 = residual_conv(filters, wide, 1, 1, rngs)
        self.norm4 = residual_norm(wide, rngs)
        self.drop, self.stride = drop, stride

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, 4 filters] of x [B, H, W, channels]."""
        h = self.conv1(self.norm1(x))
        h = self.conv2(nnx.relu(self.norm2(h)))
        h = self.drop(self.norm4(self.conv3(nnx.relu(self.norm3(h)))))
        skip = x if self.stride == 1 else _halved(x)
        missing = h.shape[-1] - skip.shape[-1]
        return h + jnp.pad(skip, ((0, 0), (0, 0), (0, 0), (0, missing)))


class ShakePyramidNet(nnx.Module):
    """Three stages of blocks whose filters grow from 16 to 16 + `alpha` by equal steps.

    Block i of N is scaled by `shakes.ShakeDrop` with probability i / (2 N). Layers for taps:
    "input", "stages.0", "stages.1", "stages.2".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      depth: 9 n + 2 layers with weights, for n blocks a stage.
      alpha: how many filters are added in all.
      as_in_program: whether, as in the authors' program, a block is scaled for all images of a
        batch or for none; otherwise each image draws by itself.
      rngs: source of the initial parameters and of the draws.

    Raises:
      ValueError: the depth is not 9 n + 2.

    Example:
      `ShakePyramidNet((32, 32, 3), 10, depth=110, alpha=270, rngs=nnx.Rngs(0))`
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int = 272,
        alpha: int = 200,
        as_in_program: bool = False,
        rngs: nnx.Rngs,
    ):
        blocks, rest = divmod(depth - 2, 9)
        if blocks < 1 or rest:
            raise ValueError(f"a PyramidNet of bottlenecks has 9 n + 2 layers, not {depth}.")
        count = 3 * blocks
        self.conv = residual_conv(image_shape[-1], 16, 3, 1, rngs)
        self.norm = residual_norm(16, rngs)
        stages, channels, width = [], 16, 16.0
        for i in range(3):
            parts = []
            for j in range(blocks):
                number = i * blocks + j
                rate = 0.5 * (number + 1) / count
                drop = ShakeDrop(number, rate, one_for_all=as_in_program, rngs=rngs)
                width += alpha / count
                filters = round(width)
                stride = 2 if i > 0 and j == 0 else 1
                parts.append(PyramidBlock(channels, filters, stride, drop, rngs))
                channels = EXPANSION * filters
            stages.append(nnx.Sequential(*parts))
        self.stages = nnx.List(stages)
        self.last_norm = residual_norm(channels, rngs)
        self.head = layers.torch_linear(channels, classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = self.norm(self.conv(x))
        for stage in self.stages:
            x = stage(x)
        x = nnx.relu(self.last_norm(x))
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))


def _halved(x: jax.Array) -> jax.Array:
    """Means of 2 x 2 pixels, and of the fewer that an odd border leaves."""
    odd = (x.shape[1] % 2, x.shape[2] % 2)
    return layers.avg_pool(jnp.pad(x, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge"))
