"""Maps of pixels at another resolution: bilinearly, or by the nearest pixel, in three conventions.

With n pixels a side in and m out, output i is at `(i + 1/2) n / m - 1/2` among the inputs by
"half_pixel", where pixels are squares, and at `i (n - 1) / (m - 1)` by "align_corners", where they
are points. "as_in_program" is what ISDA's program for segmentation does: "align_corners"
bilinearly, but the pixel `floor(i n / m)` for the nearest, which lies up to 7 pixels off at 769.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from regjax.core.checks import check_choice

RESIZINGS = ("half_pixel", "align_corners", "as_in_program")


def resized(x: jax.Array, size: tuple[int, int], resizing: str = "half_pixel") -> jax.Array:
    """Bilinear interpolation, as two products with small matrices, hence with all derivatives.

    Nothing is smoothed where the result is smaller: each pixel is of its two neighbours a side.

    Args:
      x: `[B, h, w, K]`.
      size: `(H, W)`.
      resizing: "half_pixel", "align_corners" or "as_in_program" (see the module).

    Returns:
      `[B, H, W, K]` of the same type; `x` itself where it has that size.

    Raises:
      ValueError: there is no such convention.

    Example:
      >>> x = jnp.arange(5.0).reshape(1, 1, 5, 1)
      >>> print(resized(x, (1, 9), "align_corners").ravel())
      [0.  0.5 1.  1.5 2.  2.5 3.  3.5 4. ]
      >>> print((9 * resized(x, (1, 9))).round().astype(int).ravel()[:3])
      [0 3 8]
    """
    check_choice("resizing", resizing, RESIZINGS)
    rows, columns = (
        None if n == m else jnp.asarray(_matrix(n, m, resizing), x.dtype)
        for n, m in zip(x.shape[1:3], size, strict=True)
    )
    # Accelerators round the factors of products otherwise.
    if rows is not None:
        x = jnp.einsum("Hh,bhwk->bHwk", rows, x, precision="highest")
    if columns is not None:
        x = jnp.einsum("Ww,bhwk->bhWk", columns, x, precision="highest")
    return x


def nearest(x: jax.Array, size: tuple[int, int], resizing: str = "half_pixel") -> jax.Array:
    """The nearest pixel of each; of two equally near ones the later.

    Args:
      x: `[B, H, W, K]`, such as dense labels.
      size: `(h, w)`.
      resizing: as in `resized`.

    Returns:
      `[B, h, w, K]`.

    Raises:
      ValueError: there is no such convention.

    Example:
      >>> x = jnp.arange(9).reshape(1, 1, 9, 1)
      >>> for resizing in RESIZINGS:
      ...     print(nearest(x, (1, 3), resizing).ravel())
      [1 4 7]
      [0 4 8]
      [0 3 6]
    """
    check_choice("resizing", resizing, RESIZINGS)
    for axis, m in enumerate(size, start=1):
        if x.shape[axis] != m:
            x = jnp.take(x, _nearest(x.shape[axis], m, resizing), axis)
    return x


def _matrix(n: int, m: int, resizing: str) -> np.ndarray:
    """What each of m outputs has of each of n inputs, `[m, n]`."""
    i = np.arange(m, dtype=np.float64)
    place = (i + 0.5) * n / m - 0.5 if resizing == "half_pixel" else i * (n - 1) / max(m - 1, 1)
    place = np.clip(place, 0, n - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(n)[None]), 0)


def _nearest(n: int, m: int, resizing: str) -> np.ndarray:
    i = np.arange(m)  # whole numbers throughout, so that nothing is rounded
    if resizing == "as_in_program":
        return i * n // m
    if resizing == "half_pixel":
        return (2 * i + 1) * n // (2 * m)
    steps = max(m - 1, 1)
    return (2 * i * (n - 1) + steps) // (2 * steps)
