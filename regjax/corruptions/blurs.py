"""Corruptions by blur: defocus, glass, motion, zoom, Gaussian.

Each is a function of one image `[H, W, 3]` in [0, 1], a severity from 1 to 5, which may be traced,
and a key; `regjax.corruptions` maps them over a batch and clips. Parameters are those of CIFAR-10-C
in "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (Hendrycks &
Dietterich, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from regjax.corruptions.levels import at_severity, rounded, truncated
from regjax.corruptions.resampling import edge, resample, smoothing, zoom


def gaussian_blur(image: jax.Array, severity: jax.Array, key: jax.Array) -> jax.Array:
    """A Gaussian filter of 0.4, 0.6, 0.7, 0.8 or 1 pixels, with the border repeated."""
    return _smooth(image, (0.4, 0.6, 0.7, 0.8, 1), severity)


def defocus_blur(image: jax.Array, severity: jax.Array, key: jax.Array) -> jax.Array:
    """A disk, smoothed by a Gaussian over 3 x 3 pixels; the image is mirrored at its border."""
    disks = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))  # radius and sigma
    kernel = at_severity([_disk(*disk) for disk in disks], severity)
    height, width, _ = image.shape
    wide = jnp.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = [(i, j) for i in range(5) for j in range(5)]
    return sum(
        (kernel[i, j] * wide[i : i + height, j : j + width] for i, j in shifts),
        start=jnp.zeros_like(image),
    )


def glass_blur(image: jax.Array, severity: jax.Array, key: jax.Array) -> jax.Array:
    """A Gaussian filter, pixels moved by at most one, the filter again.

    A pixel below the second row and right of the second column is replaced by itself, by the one
    above, to the left, or above to the left; at severities 4 and 5 twice over. The published
    program means to exchange the two pixels, but overwrites the first before it reads it; so the
    published images are, and so are these. The first filter's result is truncated to 255ths.
    """
    sigmas = (0.05, 0.25, 0.4, 0.25, 0.4)
    image = truncated(_smooth(image, sigmas, severity))
    once, again = jax.random.split(key)
    image = _shaken(image, once)
    image = jnp.where(severity >= 4, _shaken(image, again), image)
    return _smooth(image, sigmas, severity)


def motion_blur(image: jax.Array, severity: jax.Array, key: jax.Array) -> jax.Array:
    """The image smeared in one direction, at a random angle between -45 and 45 degrees.

    Rounded to 255ths; see `smeared`.
    """
    radius, sigma = at_severity(((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), severity)
    angle = jax.random.uniform(key, (), jnp.float32, -45, 45)
    return rounded(smeared(image, radius, sigma, angle, longest=9))


def smeared(
    image: jax.Array, radius: jax.Array, sigma: jax.Array, angle: jax.Array, *, longest: int
) -> jax.Array:
    """The motion blur of ImageMagick, which the published program calls.

    `y(p) = sum_i w_i x(p + round(i d))`, i from 0 to `2 radius`, `w_i ~ exp(-i^2 / (2 sigma^2))`
    and d the direction of the angle: half a Gaussian. The border is repeated.

    Args:
      image: `[H, W, K]`.
      radius: `[]`, in pixels.
      sigma: `[]`, in pixels.
      angle: `[]`, in degrees; positive from the columns towards larger rows.
      longest: the largest radius that occurs, static.

    Returns:
      `[H, W, K]`.

    Example:
      >>> import jax.numpy as jnp
      >>> bright = jnp.zeros((1, 5, 1)).at[0, 4].set(1.0)
      >>> one, right = jnp.array(1.0), jnp.array(0.0)
      >>> (smeared(bright, one, one, right, longest=1).ravel() > 0.05).tolist()
      [False, False, True, True, True]
    """
    reach = 2 * longest
    step = jnp.arange(reach + 1)
    weight = jnp.where(step <= 2 * radius, jnp.exp(-(step**2) / (2 * sigma**2)), 0)
    # Halves go down; with the padding in front, no offset is negative.
    turn = jnp.deg2rad(angle)
    down, right = (
        jnp.ceil(step * f(turn) - 0.5).astype(jnp.int32) + reach for f in (jnp.sin, jnp.cos)
    )
    wide = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")

    def add(total: jax.Array, tap: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        row, column, share = tap
        moved = jax.lax.dynamic_slice(wide, (row, column, jnp.zeros_like(row)), image.shape)
        return total + share * moved, None

    taps = (down, right, weight / weight.sum())
    return jax.lax.scan(add, jnp.zeros_like(image), taps)[0]


def zoom_blur(image: jax.Array, severity: jax.Array, key: jax.Array) -> jax.Array:
    """The mean of the image and its enlargements from the middle, in steps of 1%.

    Up to 6, 11, 15, 20 or 25%; the image itself counts twice.
    """
    height, width, _ = image.shape
    factors = [1 + i / 100 for i in range(26)]
    count = at_severity((7, 12, 16, 21, 26), severity)
    used = (jnp.arange(26) < count).astype(jnp.float32)
    matrices = [
        jnp.asarray(np.stack([zoom(n, f) for f in factors]), jnp.float32) for n in (height, width)
    ]

    def add(total: jax.Array, zoomed: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        rows, columns, weight = zoomed
        return total + weight * resample(image, rows, columns), None

    return jax.lax.scan(add, image, (*matrices, used))[0] / (count + 1)


def _smooth(image: jax.Array, sigmas: Sequence[float], severity: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    rows, columns = (
        at_severity([smoothing(length, sigma, 4, edge) for sigma in sigmas], severity)
        for length in (height, width)
    )
    return resample(image, rows, columns)


def _disk(radius: float, sigma: float) -> np.ndarray:
    """Pixels no further than `radius`, smoothed over 3 x 3, `[5, 5]` with sum 1."""
    place = np.arange(-2, 3)
    disk = (place[:, None] ** 2 + place**2 <= radius**2).astype(float)
    smooth = np.exp(-(np.subtract.outer(place, place) ** 2) / (2 * sigma**2))
    smooth[abs(np.subtract.outer(place, place)) > 1] = 0
    kernel = smooth @ disk @ smooth
    return kernel / kernel.sum()


def _shaken(image: jax.Array, key: jax.Array) -> jax.Array:
    """Each pixel from the third row and column on is one of the four above and to the left."""
    height, width, _ = image.shape
    row, column = jnp.indices((height, width))
    inner = (row >= 2) & (column >= 2)
    u = jax.random.uniform(key, (2, height, width), jnp.float32)
    up, left = (inner & drawn for drawn in u < 0.5)
    up, left = up[..., None], left[..., None]
    above = jnp.roll(image, 1, 0)
    same_row, row_above = (jnp.where(left, jnp.roll(x, 1, 1), x) for x in (image, above))
    return jnp.where(up, row_above, same_row)
