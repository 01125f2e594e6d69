"""DenseNets ("Densely Connected Convolutional Networks", Huang et al., 2017), as ISDA trains them.

With bottlenecks and compression ("BC") throughout. All kernels start as in the ISDA authors'
program, from N(0, sqrt(2 / (size^2 filters))), and the last layer as torch's own.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm


class DenseLayer(nnx.Module):
    """BatchNorm and ReLU before a 1 x 1 and a 3 x 3 convolution, whose output joins the input."""

    def __init__(self, channels: int, growth: int, *, dropout: float, rngs: nnx.Rngs):
        self.norm1 = residual_norm(channels, rngs)
        self.conv1 = residual_conv(channels, 4 * growth, 1, 1, rngs)
        self.norm2 = residual_norm(4 * growth, rngs)
        self.conv2 = residual_conv(4 * growth, growth, 3, 1, rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H, W, channels + growth] of x [B, H, W, channels], which come first."""
        h = self.conv1(nnx.relu(self.norm1(x)))
        h = self.conv2(nnx.relu(self.norm2(h)))
        h = h if self.dropout is None else self.dropout(h)
        return jnp.concatenate([x, h], axis=-1)


class Transition(nnx.Module):
    """BatchNorm, ReLU, a 1 x 1 convolution to half the channels, and the mean of 2 x 2 pixels."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.norm = residual_norm(channels, rngs)
        self.conv = residual_conv(channels, channels // 2, 1, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / 2, W / 2, channels / 2] of x [B, H, W, channels]."""
        return layers.avg_pool(self.conv(nnx.relu(self.norm(x))))


class DenseNet(nnx.Module):
    """Stages of dense layers, with a transition before each but the first; BatchNorm, ReLU, mean.

    Layers for taps: "input", "stages.0", "stages.1", ...; a stage begins with its transition.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      blocks: dense layers in each stage.
      growth: channels that a layer adds.
      init_features: filters of the first convolution.
      small: whether that is of 3 x 3 pixels, as for CIFAR; otherwise, as for ImageNet, of 7 x 7
        with stride 2, and BatchNorm, ReLU and a maximum over 3 x 3 pixels with stride 2 follow.
      dropout: rate after the 3 x 3 convolution of every layer.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        blocks: Sequence[int],
        growth: int,
        init_features: int,
        small: bool,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        size, stride = (3, 1) if small else (7, 2)
        channels = init_features
        self.conv = residual_conv(image_shape[-1], channels, size, stride, rngs)
        self.stem_norm = None if small else residual_norm(channels, rngs)
        stages = []
        for i, count in enumerate(blocks):
            parts: list[nnx.Module] = []
            if i > 0:
                parts.append(Transition(channels, rngs=rngs))
                channels //= 2
            for _ in range(count):
                parts.append(DenseLayer(channels, growth, dropout=dropout, rngs=rngs))
                channels += growth
            stages.append(nnx.Sequential(*parts))
        self.stages = nnx.List(stages)
        self.norm = residual_norm(channels, rngs)
        self.head = layers.torch_linear(channels, classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = self.conv(x)
        if self.stem_norm is not None:
            x = nnx.relu(self.stem_norm(x))
            x = layers.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage in self.stages:
            x = stage(x)
        x = nnx.relu(self.norm(x))
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))


def cifar_densenet(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    depth: int = 100,
    growth: int = 12,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> DenseNet:
    """DenseNet-BC-`depth`-`growth`: three stages after twice `growth` filters of 3 x 3.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      depth: 6 n + 4 layers with weights, for n dense layers a stage.
      growth: channels that a layer adds.
      dropout: rate after the 3 x 3 convolution of every layer.
      rngs: source of the initial parameters.

    Returns:
      A `DenseNet`.

    Raises:
      ValueError: the depth is not 6 n + 4.

    Example:
      `cifar_densenet((32, 32, 3), 10, rngs=nnx.Rngs(0))`, of 769,162 parameters
    """
    count, rest = divmod(depth - 4, 6)
    if count < 1 or rest:
        raise ValueError(f"a DenseNet-BC for CIFAR has 6 n + 4 layers, not {depth}.")
    return DenseNet(
        image_shape,
        classes,
        blocks=(count,) * 3,
        growth=growth,
        init_features=2 * growth,
        small=True,
        dropout=dropout,
        rngs=rngs,
    )


def imagenet_densenet(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    blocks: tuple[int, ...],
    init_features: int = 64,
    dropout: float = 0.0,
    rngs: nnx.Rngs,
) -> DenseNet:
    """DenseNet-121 or -265, of growth 32: four stages of `blocks` layers.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      blocks: (6, 12, 24, 16) for 121 layers with weights, (6, 12, 64, 48) for 265.
      init_features: filters of the first convolution; the ISDA authors' program has 24, which are
        not the parameters of their table.
      dropout: rate after the 3 x 3 convolution of every layer.
      rngs: source of the initial parameters.

    Returns:
      A `DenseNet`.

    Example:
      `imagenet_densenet((224, 224, 3), 1000, blocks=(6, 12, 24, 16), rngs=nnx.Rngs(0))`, of
      7,978,856 parameters
    """
    return DenseNet(
        image_shape,
        classes,
        blocks=blocks,
        growth=32,
        init_features=init_features,
        small=False,
        dropout=dropout,
        rngs=rngs,
    )
