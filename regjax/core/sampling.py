"""Images at places between their pixels."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.scipy.ndimage import map_coordinates


def sampled(image: jax.Array, places: Sequence[jax.Array], mode: str) -> jax.Array:
    """An image at rows and columns that need not be whole, bilinearly.

    Args:
      image: `[H, W, K]`.
      places: rows and columns, `[H', W']` each.
      mode: what is outside, as in `jax.scipy.ndimage.map_coordinates`: "nearest", "constant" for 0,
        "reflect".

    Returns:
      `[H', W', K]`.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.arange(3.0).reshape(1, 3, 1)
      >>> print(sampled(image, [jnp.zeros((1, 2)), jnp.array([[0.5, 2.5]])], "nearest").ravel())
      [0.5 2. ]
    """

    def channel(plane: jax.Array) -> jax.Array:
        return map_coordinates(plane, places, order=1, mode=mode)

    return jax.vmap(channel, -1, -1)(image)
