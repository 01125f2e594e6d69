"""Corruptions by blur: defocus, glass, motion, zoom, Gaussian.

Each is a function of one image `[H, W, 3]` in [0, 1], a severity from 1 to 5, which may be traced,
a key, and the benchmark whose levels are meant; `regjax.corruptions` maps them over a batch and
clips. See "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(Hendrycks & Dietterich, 2019); parameters are in severities.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from regjax.corruptions.levels import at_severity, rounded, truncated
from regjax.corruptions.resampling import edge, resample, smoothing, zoom
from regjax.corruptions.severities import (
    DEFOCUS_BLUR,
    GAUSSIAN_BLUR,
    GLASS_BLUR,
    MOTION_BLUR,
    ZOOM_BLUR,
    Levels,
)


def gaussian_blur(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """A Gaussian filter over the pixels of each channel, with the border repeated.

    Its standard deviation, in pixels, is that of the severity; it is cut off at four of them.
    """
    return _smooth(image, GAUSSIAN_BLUR[levels], severity)


def defocus_blur(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """A disk, smoothed by a Gaussian over 3 x 3 pixels; the image is mirrored at its border."""
    disks = [_disk(*disk) for disk in DEFOCUS_BLUR[levels]]
    reach = max(len(disk) for disk in disks) // 2
    kernel = at_severity([np.pad(disk, reach - len(disk) // 2) for disk in disks], severity)
    down, right = jnp.indices(kernel.shape)
    return _weighted(image, jnp.ravel(kernel), down, right, reach, "reflect")


def glass_blur(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """A Gaussian filter, pixels moved by at most `d`, the filter again.

    From the last pixel on backwards, each is replaced by the one that is from d up to d - 1 down
    and from d left to d - 1 right of it; by CIFAR's levels, where d is 1, by itself, the one above,
    to the left, or above to the left. At some severities this is done twice or three times. The
    published programs mean to exchange the two pixels, but overwrite the first before they read it;
    so the published images are, and so are these. The first filter's result is truncated to 255ths.
    """
    sigmas, moves, counts = zip(*GLASS_BLUR[levels], strict=True)
    image = truncated(_smooth(image, sigmas, severity))
    for i, each in enumerate(jax.random.split(key, max(counts))):
        moved = _shaken(image, each, at_severity(moves, severity), max(moves))
        image = jnp.where(i < at_severity(counts, severity), moved, image)
    return _smooth(image, sigmas, severity)


def motion_blur(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The image smeared in one direction, at a random angle between -45 and 45 degrees.

    Rounded to 255ths: which of the two nearest the published programs store depends on how the
    version of ImageMagick writes its 16 bits as 8. See `smeared`.
    """
    radius, sigma = at_severity(MOTION_BLUR[levels], severity)
    angle = jax.random.uniform(key, (), jnp.float32, -45, 45)
    return rounded(
        smeared(image, radius, sigma, angle, longest=max(each for each, _ in MOTION_BLUR[levels]))
    )


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
    return _weighted(image, weight / weight.sum(), down, right, reach, "edge")


def zoom_blur(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The mean of the image and its enlargements from the middle.

    For CIFAR in steps of 1%, up to 6, 10, 15, 20 or 25%; the image itself counts twice.
    """
    height, width, _ = image.shape
    rows = ZOOM_BLUR[levels]
    factors, which = np.unique(np.concatenate(rows), return_inverse=True)
    counts = [len(row) for row in rows]
    chosen = [np.resize(each, max(counts)) for each in np.split(which, np.cumsum(counts)[:-1])]
    count = at_severity(counts, severity)
    used = (jnp.arange(max(counts)) < count).astype(jnp.float32)
    index = at_severity(chosen, severity).astype(jnp.int32)
    tall, wide = (
        jnp.asarray(np.stack([zoom(n, f) for f in factors]), jnp.float32) for n in (height, width)
    )

    def add(total: jax.Array, zoomed: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        i, weight = zoomed
        return total + weight * resample(image, tall[i], wide[i]), None

    return jax.lax.scan(add, image, (index, used))[0] / (count + 1)


def _smooth(image: jax.Array, sigmas: Sequence[float], severity: jax.Array) -> jax.Array:
    height, width, _ = image.shape
    rows, columns = (
        at_severity([smoothing(length, sigma, 4, edge) for sigma in sigmas], severity)
        for length in (height, width)
    )
    return resample(image, rows, columns)


def _weighted(
    image: jax.Array,
    weights: jax.Array,
    down: jax.Array,
    right: jax.Array,
    reach: int,
    boundary: Literal["edge", "reflect"],
) -> jax.Array:
    """The sum of copies moved up and to the left, offsets from 0 on counted in the padded image."""
    wide = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode=boundary)

    def add(total: jax.Array, tap: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        row, column, weight = tap
        moved = jax.lax.dynamic_slice(wide, (row, column, jnp.zeros_like(row)), image.shape)
        return total + weight * moved, None

    taps = (jnp.ravel(down), jnp.ravel(right), weights)
    return jax.lax.scan(add, jnp.zeros_like(image), taps)[0]


def _disk(radius: float, sigma: float) -> np.ndarray:
    """Pixels no further than `radius`, smoothed over 3 x 3 or 5 x 5, `[2 n + 1, 2 n + 1]`.

    As OpenCV smooths the programs' disk, which is a picture of 17 x 17 or more pixels: mirrored at
    its border, so that those of radius 8 and 10 have a sum of 1.01.
    """
    reach, around = (8, 1) if radius <= 8 else (math.ceil(radius), 2)
    place, near = np.arange(-reach, reach + 1), np.arange(-around, around + 1)
    disk = (place[:, None] ** 2 + place**2 <= radius**2).astype(float)
    bell = np.exp(-(near**2) / (2 * sigma**2))
    bell = bell / bell.sum()
    for _ in range(2):
        wide = np.pad(disk, ((around, around), (0, 0)), mode="reflect")
        disk = sum(w * wide[i : i + len(place)] for i, w in enumerate(bell)).T
    used = min(math.floor(radius) + around, reach)
    kernel = disk[reach - used : reach + used + 1, reach - used : reach + used + 1]
    return kernel / (place[:, None] ** 2 + place**2 <= radius**2).sum()


def _shaken(image: jax.Array, key: jax.Array, most: jax.Array, largest: int) -> jax.Array:
    """Each pixel replaced by one at most `most` away, which may have been replaced before."""
    height, width, _ = image.shape
    row, column = jnp.indices((height, width))
    u = jax.random.uniform(key, (2, height, width), jnp.float32)
    down, right = jnp.floor(u * 2 * most).astype(jnp.int32) - most.astype(jnp.int32)
    inner = (row > most) & (row <= height - most) & (column > most) & (column <= width - most)
    here = row * width + column
    source = jnp.where(inner, here + down * width + right, here).ravel()
    if largest > 1:
        source = _followed(source, inner.ravel())
    return image.reshape(height * width, -1)[source].reshape(image.shape)


def _followed(source: jax.Array, inner: jax.Array) -> jax.Array:
    """Where pixels come from in the end, that are replaced from the last one backwards.

    One whose source lies behind it gets what that one has got by then. Such chains go on with a
    chance below a half: one of more than 64 is not to be expected.
    """
    count = len(source)
    place = jnp.arange(count)
    # What a pixel is in the end stands at its place, what it was at first at `count` places more.
    replaced = (source > place) & inner[source]
    link = jnp.concatenate([jnp.where(replaced, source, source + count), place + count])
    for _ in range(6):
        link = link[link]
    return link[:count] % count
