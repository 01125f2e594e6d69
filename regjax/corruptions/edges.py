"""Edges of a grey image and the distance to them, in OpenCV's arithmetic."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def moved(image: jax.Array, down: int, right: int, mode: str) -> jax.Array:
    """The pixel that lies so much further down and to the right, for each pixel.

    Args:
      image: `[H, W]`.
      down: -1, 0 or 1.
      right: -1, 0 or 1.
      mode: what lies beyond the border, as in `jnp.pad`.

    Returns:
      `[H, W]`.

    Example:
      >>> import jax.numpy as jnp
      >>> moved(jnp.array([[1.0, 2.0]]), 0, 1, "edge").tolist()
      [[2.0, 2.0]]
    """
    height, width = image.shape
    wide = jnp.pad(image, 1, mode=mode)
    return wide[1 + down : 1 + down + height, 1 + right : 1 + right + width]


def canny(image: jax.Array, low: float = 50, high: float = 150) -> jax.Array:
    """Edges by Canny's method, as OpenCV finds them.

    Sobel gradients, of which those are kept that are largest across the edge and above `high`, or
    above `low` and connected to such a one.

    Args:
      image: `[H, W]`, whole numbers from 0 to 255.
      low: of `|dx| + |dy|`.
      high: likewise.

    Returns:
      `[H, W]` bool.

    Example:
      >>> import jax.numpy as jnp
      >>> canny(jnp.zeros((3, 4)).at[:, 2:].set(100))[1].tolist()
      [False, True, False, False]
    """

    def at(i: int, j: int) -> jax.Array:
        return moved(image, i, j, "edge")

    dx = sum(w * (at(i, 1) - at(i, -1)) for i, w in ((-1, 1), (0, 2), (1, 1)))
    dy = sum(w * (at(1, j) - at(-1, j)) for j, w in ((-1, 1), (0, 2), (1, 1)))
    size = jnp.abs(dx) + jnp.abs(dy)

    def larger_than(one: tuple[int, int], other: tuple[int, int], strict: bool) -> jax.Array:
        first, second = (moved(size, i, j, "constant") for i, j in (one, other))
        return (size > first) & ((size > second) if strict else (size >= second))

    slope = 0.41421356  # the tangent of 22.5 degrees; 2 + slope is the one of 67.5
    along = jnp.where(
        jnp.sign(dx) * jnp.sign(dy) < 0,
        larger_than((-1, 1), (1, -1), True),
        larger_than((-1, -1), (1, 1), True),
    )
    along = jnp.where(
        jnp.abs(dy) > (2 + slope) * jnp.abs(dx), larger_than((-1, 0), (1, 0), False), along
    )
    along = jnp.where(jnp.abs(dy) < slope * jnp.abs(dx), larger_than((0, -1), (0, 1), False), along)
    weak = along & (size > low)
    return _connected(weak & (size > high), weak)


def edge_distance(edge: jax.Array, farthest: int = 20) -> jax.Array:
    """Distance to the nearest edge, in steps of 1, 1.4 and 2.1969 to the neighbours.

    Those of 5 x 5 pixels: beside each other, diagonal, and a knight's move away.

    Args:
      edge: `[H, W]` bool.
      farthest: static; larger distances come out as this.

    Returns:
      `[H, W]`, 0 on the edges.

    Example:
      >>> import jax.numpy as jnp
      >>> edge_distance(jnp.array([[True, False, False]])).tolist()
      [[0.0, 1.0, 2.0]]
    """
    height, width = edge.shape
    start = jnp.where(edge, 0.0, farthest)

    def shorten(_: int, distance: jax.Array) -> jax.Array:
        wide = jnp.pad(distance, 2, constant_values=farthest)
        for i, j, length in _STEPS:
            there = wide[2 + i : 2 + i + height, 2 + j : 2 + j + width]
            distance = jnp.minimum(distance, there + length)
        return distance

    return jax.lax.fori_loop(0, farthest, shorten, start)


_LENGTHS = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
_STEPS = [
    (i, j, _LENGTHS[min(abs(i), abs(j)), max(abs(i), abs(j))])
    for i in range(-2, 3)
    for j in range(-2, 3)
    if (min(abs(i), abs(j)), max(abs(i), abs(j))) in _LENGTHS
]


def _connected(seed: jax.Array, allowed: jax.Array) -> jax.Array:
    """The allowed pixels that a chain of neighbours, diagonal ones too, connects to a seed."""
    height, width = seed.shape

    def grow(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        found, _ = state
        wide = jnp.pad(found, 1)
        near = found
        for i in range(3):
            for j in range(3):
                near = near | wide[i : i + height, j : j + width]
        near = near & allowed
        return near, jnp.any(near != found)

    return jax.lax.while_loop(lambda state: state[1], grow, (seed, jnp.any(seed)))[0]
