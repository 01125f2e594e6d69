"""Corruptions by weather: snow, frost, fog. Spatter is in liquid.py.

Each is a function of one image `[H, W, 3]` in [0, 1], a severity from 1 to 5, which may be traced,
a key, and the benchmark whose levels are meant; `regjax.corruptions` maps them over a batch and
clips. See "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(Hendrycks & Dietterich, 2019); parameters are in severities.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from regjax.corruptions.blurs import smeared
from regjax.corruptions.levels import at_severity, rounded, truncated
from regjax.corruptions.resampling import reflect, resample, smoothing, zoom
from regjax.corruptions.severities import FOG, FROST, FROST_SCALE, SNOW, Levels

GREY = (0.299, 0.587, 0.114)  # of red, green and blue


def snow(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The image whitened, with smeared flakes and the same flakes turned by half a circle.

    The smear is rounded as in `motion_blur`.
    """
    table = SNOW[levels]
    mean, deviation, _, least, radius, sigma, kept = at_severity(table, severity)
    to_flakes, to_angle = jax.random.split(key)
    height, width, _ = image.shape
    flakes = mean + deviation * jax.random.normal(to_flakes, (height, width, 1), jnp.float32)
    sizes, radii = ([entry[i] for entry in table] for i in (2, 4))
    enlarging = (at_severity([zoom(n, s) for s in sizes], severity) for n in (height, width))
    flakes = resample(flakes, *enlarging)
    flakes = truncated(jnp.where(flakes < least, 0, flakes))
    angle = jax.random.uniform(to_angle, (), jnp.float32, -135, -45)
    flakes = rounded(smeared(flakes, radius, sigma, angle, longest=max(radii)))
    grey = jnp.sum(image * jnp.array(GREY).reshape(1, 1, 3), axis=-1, keepdims=True)
    whitened = kept * image + (1 - kept) * jnp.maximum(image, grey * 1.5 + 0.5)
    return whitened + flakes + jnp.flip(flakes, (0, 1))


def fog(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """A cloud over the image, scaled back to the brightest value of the image.

    `(x + c f) m / (m + c)`, c from 0.2 to 1.5 for CIFAR, m the image's maximum, f a plasma fractal
    in [0, 1].
    """
    thickness, decay = at_severity(FOG[levels], severity)
    height, width, _ = image.shape
    brightest = jnp.max(image)
    cloud = plasma(key, max(height, width), decay)[:height, :width, None]
    return (image + thickness * cloud) * brightest / (brightest + thickness)


def plasma(key: jax.Array, size: int, decay: jax.Array) -> jax.Array:
    """A periodic random landscape, by the diamond-square algorithm.

    From one point on, each step sets the centres of the squares to the mean of their corners plus
    uniform noise, then the centres of the edges likewise; the noise falls by `decay^2` a step.

    Args:
      key: drives the noise.
      size: of the side, at least; rounded up to a power of two.
      decay: `[]`, above 1: the larger, the smoother.

    Returns:
      `[n, n]`, from 0 to 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> cloud = plasma(jax.random.key(0), 5, jnp.array(2.0))
      >>> cloud.shape, cloud.min().item(), cloud.max().item()
      ((8, 8), 0.0, 1.0)
    """
    levels = max(size - 1, 1).bit_length()
    land = jnp.zeros((1, 1))
    every = jax.random.uniform(key, (4**levels,), jnp.float32, -1, 1)  # one call: fast to compile
    for level in range(levels):
        noise = every[land.size : 4 * land.size].reshape(3, *land.shape) * decay ** (-2 * level)
        pairs = land + jnp.roll(land, -1, 0)
        centre = (pairs + jnp.roll(pairs, -1, 1)) / 4 + noise[0]
        top = (land + jnp.roll(land, -1, 1) + centre + jnp.roll(centre, 1, 0)) / 4 + noise[1]
        left = (land + jnp.roll(land, -1, 0) + centre + jnp.roll(centre, 1, 1)) / 4 + noise[2]
        rows = [jnp.stack([land, top], -1), jnp.stack([left, centre], -1)]
        land = jnp.stack(rows, 1).reshape(2 * len(land), -1)
    land -= land.min()
    return land / land.max()


def frost(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """Ice crystals over the image: `c x + d ice`.

    With c and d as published, for CIFAR from (1, 0.2) to (0.75, 0.45), but **not the published
    ice**: there it is cut out of photographs, which cannot be shipped; here it is drawn (see
    `ice`), at the scale to which they are shrunk. It is milder, so that networks lose less by it:
    results of the two must not be compared.
    """
    kept, added = at_severity(FROST[levels], severity)
    height, width, _ = image.shape
    return kept * image + added * ice(key, (height, width), FROST_SCALE[levels] / 0.2)


def ice(key: jax.Array, size: tuple[int, int], scale: float = 1.0) -> jax.Array:
    """A random texture like ice on a window: bright veins, wide and narrow, on bluish grey.

    Veins are where smooth noise, drawn at three scales, crosses 0.

    Args:
      key: drives the noise.
      size: height and width.
      scale: of the veins, 1 for images of 32 pixels; static.

    Returns:
      `[H, W, 3]` in [0, 1].

    Example:
      >>> import jax
      >>> ice(jax.random.key(0), (32, 32)).shape
      (32, 32, 3)
    """
    noise = jax.random.normal(key, (*size, len(_VEINS)), jnp.float32)
    total = jnp.zeros((*size, 1))
    for i, (sigma, share) in enumerate(_VEINS):
        smooth = resample(noise[..., i : i + 1], *(_unit_smoothing(n, sigma * scale) for n in size))
        total += share * jnp.exp(-3 * jnp.abs(smooth))
    tint = jnp.array([0.85, 0.95, 1.0]).reshape(1, 1, 3)
    return jnp.clip(0.25 + total, 0, 1) * tint


_VEINS = ((4.0, 0.45), (1.6, 0.35), (0.7, 0.25))  # scale in pixels of CIFAR, brightness


def _unit_smoothing(length: int, sigma: float) -> jax.Array:
    """A Gaussian filter that leaves the variance of white noise as it is."""
    matrix = smoothing(length, sigma, 3, reflect)
    return jnp.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), jnp.float32)
