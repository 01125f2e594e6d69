"""The networks of the thesis "Noise Injection and Gradient Regularization", section 7.1."""

import jax
from flax import nnx

from experiments.models import layers


class SmallCNN(nnx.Module):
    """Three 3 x 3 convolutions and two dense layers (7.1.1).

    The thesis does not name the padding: "SAME" serves images down to 4 x 4, "VALID" is the
    default of its framework and needs 18 x 18.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      padding: of the convolutions, "SAME" or "VALID".
      rngs: source of the initial parameters.

    Raises:
      ValueError: the image is too small for the layers.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        padding: str = "SAME",
        rngs: nnx.Rngs,
    ):
        height, width, channels = image_shape
        self.conv1 = layers.Conv(channels, 32, (3, 3), padding=padding, rngs=rngs)
        self.conv2 = layers.Conv(32, 64, (3, 3), padding=padding, rngs=rngs)
        self.conv3 = layers.Conv(64, 64, (3, 3), padding=padding, rngs=rngs)
        pixels = _pixels(height, padding) * _pixels(width, padding)
        if pixels == 0:
            raise ValueError(
                f"SmallCNN with padding {padding!r} needs larger images than {height} x {width}."
            )
        self.hidden = layers.Linear(64 * pixels, 64, rngs=rngs)
        self.head = layers.Linear(64, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        # The same as a maximum of ReLUs, of a quarter as many.
        h = nnx.relu(layers.max_pool(self.conv1(x)))
        h = nnx.relu(layers.max_pool(self.conv2(h)))
        h = nnx.relu(self.conv3(h))
        h = nnx.relu(self.hidden(h.reshape(len(h), -1)))
        return self.head(h)


class ResidualBlock(nnx.Module):
    """Two 3 x 3 convolutions with BatchNorm, and a shortcut, 1 x 1 where the shape changes."""

    def __init__(self, channels: int, filters: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = layers.Conv(channels, filters, (3, 3), strides=stride, rngs=rngs)
        self.norm1 = layers.BatchNorm(filters, rngs=rngs)
        self.conv2 = layers.Conv(filters, filters, (3, 3), rngs=rngs)
        self.norm2 = layers.BatchNorm(filters, rngs=rngs)
        self.project = stride != 1 or channels != filters
        if self.project:
            self.shortcut = layers.Conv(channels, filters, (1, 1), strides=stride, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        h = nnx.relu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        return nnx.relu(h + (self.shortcut(x) if self.project else x))


class ThesisResNet(nnx.Module):
    """Three residual blocks of 16, 32 and 64 filters, strides 1, 2 and 2 (7.1.2).

    The average pool covers whatever is left of the image: 8 x 8 for the thesis's 32 x 32.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      rngs: source of the initial parameters.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, rngs: nnx.Rngs):
        plan = ((image_shape[-1], 16, 1), (16, 32, 2), (32, 64, 2))
        self.blocks = nnx.List([ResidualBlock(*shape, rngs=rngs) for shape in plan])
        self.head = layers.Linear(64, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        for block in self.blocks:
            x = block(x)
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))


def _pixels(size: int, padding: str) -> int:
    """What one side of the image has left before the dense layers."""
    lost = 0 if padding == "SAME" else 2
    return max(((size - lost) // 2 - lost) // 2 - lost, 0)
