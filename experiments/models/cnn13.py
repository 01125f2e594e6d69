"""CNN-13, the network of semi-supervised learning on CIFAR and SVHN.

"Temporal Ensembling for Semi-Supervised Learning" (Laine and Aila, 2017), Table 3; ISDA, Table 10.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.initializers import normal

from experiments.models import layers

SLOPE = 0.1  # of the leaky ReLUs
RELU = nnx.initializers.variance_scaling(2 / (1 + SLOPE**2), "fan_in", "normal")


class Normalized(nnx.Module):
    """A convolution without bias and BatchNorm."""

    def __init__(self, channels: int, filters: int, size: int, padding: str, *, rngs: nnx.Rngs):
        self.conv = layers.Conv(
            channels,
            filters,
            (size, size),
            padding=padding,
            use_bias=False,
            kernel_init=RELU,
            rngs=rngs,
        )
        self.norm = layers.residual_norm(filters, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H', W', filters] of x [B, H, W, channels]."""
        return self.norm(self.conv(x))


class MeanNorm(nnx.Module):
    """Mean-only BatchNorm: features less their mean over the batch, plus a bias.

    "Weight Normalization" (Salimans and Kingma, 2016), section 3.1. In evaluation the running mean
    takes the batch's place.
    """

    def __init__(self, filters: int):
        self.mean = nnx.BatchStat(jnp.zeros(filters))
        self.bias = nnx.Param(jnp.zeros(filters))
        self.use_running_average = False
        self.axis_name: str | None = None

    def set_view(self, use_running_average: bool | None = None) -> None:
        """What `nnx.view` asks for."""
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., filters] of x [..., filters]."""
        if self.use_running_average:
            mean = self.mean[...]
        else:
            mean = jnp.mean(x.astype(jnp.float32), tuple(range(x.ndim - 1)))
            mean = mean if self.axis_name is None else jax.lax.pmean(mean, self.axis_name)
            self.mean[...] = 0.999 * self.mean[...] + 0.001 * jax.lax.stop_gradient(mean)
        shift = self.bias[...] - mean
        return x + shift.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


class WeightNormalized(nnx.Module):
    """A convolution of weights `g V / |V|`, one g a filter, and mean-only BatchNorm.

    The authors set g by a first batch, so that the outputs have variance 1. Here it is what does
    so for independent inputs that are leaky ReLUs of such outputs, and needs no data.
    """

    def __init__(self, channels: int, filters: int, size: int, padding: str, *, rngs: nnx.Rngs):
        shape = (size, size, channels, filters)
        self.direction = nnx.Param(normal(0.05)(rngs.params(), shape))
        self.length = nnx.Param(jnp.full(filters, (2 / (1 + SLOPE**2)) ** 0.5))
        self.norm = MeanNorm(filters)
        self.padding = padding

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H', W', filters] of x [B, H, W, channels]."""
        direction = self.direction[...]
        square = jnp.sum(direction**2, (0, 1, 2), keepdims=True)
        scale = self.length[...].reshape(1, 1, 1, -1) * jax.lax.rsqrt(square)
        return self.norm(
            layers.convolve(x, (scale * direction).astype(x.dtype), (1, 1), self.padding)
        )


class Cnn13(nnx.Module):
    """Nine convolutions with leaky ReLUs of slope 0.1, and a linear layer.

    Three of 3 x 3, a max pool and dropout, twice; then one of 3 x 3 without padding and two of
    1 x 1, whose mean over all positions is the feature. Layers for taps: "input", "convs.0" to
    "convs.8".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      width: filters of the first three, and of the feature; the others have two and four times
        as many.
      dropout: rate after each pool.
      weight_norm: whether all layers have weight normalisation and mean-only BatchNorm in the place
        of BatchNorm, as in Laine and Aila's program; without a linear head, hence not for ISDA.
      noise: deviation of the noise on the input in training; 0.15 in that program.
      rngs: source of the initial parameters, and of dropout and noise.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        width: int = 128,
        dropout: float = 0.5,
        weight_norm: bool = False,
        noise: float = 0.0,
        rngs: nnx.Rngs,
    ):
        layer: Callable[..., Any] = WeightNormalized if weight_norm else Normalized
        sizes = (3,) * 7 + (1, 1)
        filters = [image_shape[-1], *(width * m for m in (1, 1, 1, 2, 2, 2, 4, 2, 1))]
        self.convs = nnx.List(
            [
                layer(*filters[i : i + 2], size, "VALID" if i == 6 else "SAME", rngs=rngs)
                for i, size in enumerate(sizes)
            ]
        )
        self.dropouts = nnx.List([nnx.Dropout(dropout, rngs=rngs) for _ in range(2)])
        self.noise = layers.Noise(noise, rngs=rngs) if noise else None
        self.head_name = None if weight_norm else "head"
        if weight_norm:
            self.last = WeightNormalized(width, classes, 1, "VALID", rngs=rngs)
        else:
            self.head = layers.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = x if self.noise is None else self.noise(x)
        for i, conv in enumerate(self.convs):
            x = nnx.leaky_relu(conv(x), SLOPE)
            if i in (2, 5):
                x = self.dropouts[i // 3](layers.max_pool(x))
        x = layers.avg_pool(x, x.shape[1:3])
        return self.head(x[:, 0, 0]) if self.head_name else self.last(x)[:, 0, 0]
