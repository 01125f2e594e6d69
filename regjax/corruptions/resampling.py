"""Smoothing and resampling of images as one small matrix a side, built in NumPy at trace time.

Such a matrix holds the boundary as well, so that an image of any size is two matrix products, and
matrices for several strengths stack, to be chosen by a traced index.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Boundary = Callable[[np.ndarray, int], np.ndarray]


def edge(index: np.ndarray, length: int) -> np.ndarray:
    """Where an index beyond an end is taken from: the last pixel, `aaa|abcd|ddd`."""
    return np.clip(index, 0, length - 1)


def reflect(index: np.ndarray, length: int) -> np.ndarray:
    """Where an index beyond an end is taken from: the mirror image, `cba|abcd|dcb`."""
    folded = index % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def smoothing(length: int, sigma: float, truncate: float, boundary: Boundary) -> np.ndarray:
    """The matrix of a Gaussian filter.

    Args:
      length: of the side.
      sigma: in pixels; 0 is the identity.
      truncate: how many sigma the filter reaches, rounded to whole pixels.
      boundary: `edge` or `reflect`.

    Returns:
      `[length, length]`, float64, whose rows sum to 1.

    Example:
      >>> smoothing(3, 0.5, 2.0, edge).round(2).tolist()
      [[0.89, 0.11, 0.0], [0.11, 0.79, 0.11], [0.0, 0.11, 0.89]]
    """
    radius = int(truncate * sigma + 0.5)
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-(offset**2) / (2 * sigma**2)) if radius else np.ones(1)
    matrix = np.zeros((length, length))
    place = np.arange(length)[:, None]
    np.add.at(matrix, (place, boundary(place + offset, length)), weight / weight.sum())
    return matrix


def zoom(length: int, factor: float) -> np.ndarray:
    """The matrix that enlarges the middle of a side to the whole, bilinearly.

    The middle has `ceil(length / factor)` pixels; what it is too long after rounding is cut off.

    Args:
      length: of the side.
      factor: at least 1.

    Returns:
      `[length, length]`, float64, whose rows sum to 1.

    Example:
      >>> zoom(3, 1.5).round(2).tolist()
      [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]
    """
    inner = math.ceil(length / factor)
    outer = round(inner * factor)
    step = (inner - 1) / max(outer - 1, 1)
    at = (np.arange(length) + (outer - length) // 2) * step
    first = np.minimum(np.floor(at).astype(int), max(inner - 2, 0))
    matrix, rows, top = np.zeros((length, length)), np.arange(length), (length - inner) // 2
    matrix[rows, top + first] = 1 - (at - first)
    matrix[rows, np.minimum(top + first + 1, length - 1)] += at - first
    return matrix


def coarsening(length: int, small: int) -> np.ndarray:
    """The matrix that shrinks a side to `small` pixels and back, as Pillow's box filter does.

    A small pixel is the mean of the whole pixels whose centres lie under it.

    Args:
      length: of the side.
      small: at most `length`.

    Returns:
      `[length, length]`, float64, whose rows sum to 1.

    Example:
      >>> coarsening(4, 2).tolist()[:2]
      [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    """
    scale, pixel = length / small, np.arange(length)[None]
    middle = (np.arange(small)[:, None] + 0.5) * scale
    # A centre may lie on an edge but for rounding: where it goes, Pillow's arithmetic decides.
    first, last = ((middle + half + 0.5).astype(int) for half in (-scale / 2, scale / 2))
    offset = (pixel - middle + 0.5) / scale
    under = (first <= pixel) & (pixel < last) & (offset > -0.5) & (offset <= 0.5)
    means = under / under.sum(1, keepdims=True)
    return means[((pixel[0] + 0.5) * (small / length)).astype(int)]


def resample(image: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """An image with one matrix applied along its height and another along its width.

    Args:
      image: `[H, W, K]`.
      rows: `[H, H]`.
      columns: `[W, W]`.

    Returns:
      `[H, W, K]`.

    Example:
      >>> import jax.numpy as jnp
      >>> swap = jnp.eye(2)[::-1]
      >>> resample(jnp.arange(4.0).reshape(2, 2, 1), swap, jnp.eye(2)).ravel().tolist()
      [2.0, 3.0, 0.0, 1.0]
    """
    # Accelerators would round the factors to fewer bits than a pixel has levels.
    half = jnp.einsum("ij,jkc->ikc", rows, image, precision="highest")
    return jnp.einsum("kl,ilc->ikc", columns, half, precision="highest")
