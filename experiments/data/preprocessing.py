"""From stored pixels to the network's input, on the device."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def normalise(
    image: jax.Array,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> jax.Array:
    """Scales pixels to [0, 1], then to `(x - mean) / std` per channel.

    Args:
      image: uint8 [..., H, W, K], or floats that are in [0, 1] already.
      mean: of the scaled pixels, one for all channels or K; by default 0.
      std: likewise; by default 1.

    Returns:
      float32, the shape of `image`.

    Raises:
      TypeError: if the image is of other integers.
      ValueError: if mean or std is neither one number nor K.

    Example:
      `normalise(jnp.full((2, 4, 4, 1), 255, jnp.uint8), mean=0.5, std=0.5)` is 1 everywhere.
    """
    floating = jnp.issubdtype(image.dtype, jnp.floating)
    if image.dtype != jnp.uint8 and not floating:
        raise TypeError(f"Images to normalise must be uint8 or floating, not {image.dtype}.")
    scaled = image.astype(jnp.float32)
    scaled = scaled if floating else scaled / 255
    return (scaled - _per_channel("mean", mean, 0.0, image)) / _per_channel("std", std, 1.0, image)


def _per_channel(
    name: str, value: float | Sequence[float] | None, default: float, image: jax.Array
) -> jax.Array:
    """Returns `value` with as many dimensions as the image, the last of one or K."""
    given = jnp.ravel(jnp.asarray(default if value is None else value, jnp.float32))
    if given.size not in (1, image.shape[-1]):
        raise ValueError(
            f"{name} has {given.size} numbers, but the image {image.shape[-1]} channels; give one "
            "number for all or one for each."
        )
    return given.reshape((1,) * (image.ndim - 1) + (-1,))
