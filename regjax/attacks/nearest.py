"""What attacks keep that look for the smallest change."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Found(NamedTuple):
    """The nearest misleading images so far.

    Attributes:
      image: the images, `[B, ...]`, the clean one where there is none.
      distance: their distances, `[B]`, infinite where there is none.
    """

    image: jax.Array
    distance: jax.Array


def nearer(found: Found, image: jax.Array, x: jax.Array, misled: jax.Array) -> Found:
    """What was found, or `x` where it misleads, `[B]` booleans, and is nearer to the image."""
    distance = jnp.sqrt(square_distance(x, image))
    better = misled & (distance < found.distance)
    rows = better.reshape(-1, *[1] * (x.ndim - 1))
    return Found(jnp.where(rows, x, found.image), jnp.where(better, distance, found.distance))


def square_distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """The squared Euclidean distance of each example from another.

    Args:
      a: images `[B, ...]`.
      b: others of that shape.

    Returns:
      `[B]`, in squared units of a pixel.
    """
    return jnp.sum((a - b) ** 2, axis=tuple(range(1, a.ndim)))
