"""What the networks of Keras's applications have in common, whose conventions these are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers


class ConvNorm(nnx.Module):
    """A convolution without bias, BatchNorm, and an activation or none.

    Args:
      channels: of the input.
      filters: of the output.
      size: height and width of the kernel.
      stride: along both sides.
      padding: "SAME" or "VALID", or zeros before and after, of each side.
      groups: of the channels.
      dilation: of the kernel.
      momentum: of BatchNorm's averages, the share that stays in a step.
      epsilon: of BatchNorm.
      scale: whether BatchNorm has a factor beside its bias.
      activation: of the result.
      kernel_init: of the kernel.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        size: tuple[int, int],
        stride: int = 1,
        *,
        padding: layers.Padding = "SAME",
        groups: int = 1,
        dilation: int = 1,
        momentum: float,
        epsilon: float = 1e-3,
        scale: bool = True,
        activation: Callable[[jax.Array], jax.Array] | None = None,
        kernel_init: nnx.Initializer = layers.GLOROT,
        rngs: nnx.Rngs,
    ):
        self.conv = layers.Conv(
            channels,
            filters,
            size,
            strides=stride,
            padding=padding,
            kernel_dilation=dilation,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=kernel_init,
            rngs=rngs,
        )
        own: dict[str, Any] = {"momentum": momentum, "epsilon": epsilon, "use_scale": scale}
        self.norm = layers.BatchNorm(filters, **own, rngs=rngs)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H', W', filters] of x [B, H, W, channels]."""
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


def depthwise(channels: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    """A convolution of each channel by itself, without bias."""
    options: dict[str, Any] = {"feature_group_count": channels, "use_bias": False}
    return layers.Conv(channels, channels, (size, size), strides=stride, rngs=rngs, **options)


def mean_around(x: jax.Array) -> jax.Array:
    """Means [B, H, W, K] of the 3 x 3 pixels around each, of those that there are."""
    pool = ((3, 3), (1, 1), "SAME")
    there = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return layers.avg_pool(x, *pool) / layers.avg_pool(there, *pool)


def pooled(x: jax.Array) -> jax.Array:
    """Means [B, K] of x [B, H, W, K] over all pixels."""
    return layers.avg_pool(x, x.shape[1:3])[:, 0, 0]


def check_size(name: str, image_shape: tuple[int, int, int], least: int) -> None:
    """Refuses images of which a side has fewer than so many pixels.

    Raises:
      ValueError: it has.
    """
    height, width, _ = image_shape
    if min(height, width) < least:
        raise ValueError(
            f"{name} needs images of at least {least} x {least} pixels, but these are {height} x "
            f"{width}: enlarge them, for example by config.image_size={least}."
        )
