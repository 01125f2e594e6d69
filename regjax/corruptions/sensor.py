"""Corruptions of single pixels: noise of the camera, and colours.

Each is a function of one image `[H, W, 3]` in [0, 1], a severity from 1 to 5, which may be traced,
a key, and the benchmark whose levels are meant; `regjax.corruptions` maps them over a batch and
clips. See "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(Hendrycks & Dietterich, 2019); parameters are in severities.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from regjax.corruptions.levels import at_severity
from regjax.corruptions.severities import (
    BRIGHTNESS,
    CONTRAST,
    GAUSSIAN_NOISE,
    IMPULSE_NOISE,
    SATURATE,
    SHOT_NOISE,
    SPECKLE_NOISE,
    Levels,
)


def gaussian_noise(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """Normal noise, drawn for each pixel and channel, as in low light."""
    sigma = at_severity(GAUSSIAN_NOISE[levels], severity)
    return image + sigma * jax.random.normal(key, image.shape, jnp.float32)


def speckle_noise(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """Normal noise in proportion to the pixel: the brighter, the noisier."""
    sigma = at_severity(SPECKLE_NOISE[levels], severity)
    return image * (1 + sigma * jax.random.normal(key, image.shape, jnp.float32))


def shot_noise(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The photons that arrive: `Poisson(c x) / c`, x rounded to 255ths.

    c is from 500 down to 50 for CIFAR, from 60 down to 3 for ImageNet.
    """
    photons = at_severity(SHOT_NOISE[levels], severity)
    # By inversion, with one table for the 256 levels: rejection sampling takes 10 times as long.
    count = jnp.arange(_MOST_PHOTONS, dtype=jnp.float32)[None]
    mean = photons * jnp.arange(256, dtype=jnp.float32)[:, None] / 255
    log_chance = count * jnp.log(jnp.maximum(mean, 1e-30)) - mean - gammaln(count + 1)
    below = jnp.cumsum(jnp.exp(log_chance), axis=1)
    below /= below[:, -1:]  # or a draw near 1 would find no end
    level = jnp.round(image * 255).astype(jnp.int32)
    u = jax.random.uniform(key, image.shape, jnp.float32)
    return _search(below, level, u).astype(jnp.float32) / photons


def impulse_noise(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """A share of the values is 0 or 1 with equal chances, each channel for itself."""
    amount = at_severity(IMPULSE_NOISE[levels], severity)
    u = jax.random.uniform(key, image.shape, jnp.float32)
    return jnp.where(u < amount / 2, 0, jnp.where(u < amount, 1, image))


def brightness(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The value, the largest of the three channels, is raised at the same hue and saturation."""
    value = jnp.max(image, axis=-1, keepdims=True)
    brighter = jnp.minimum(value + at_severity(BRIGHTNESS[levels], severity), 1)
    return jnp.where(value > 0, image * brighter / jnp.where(value > 0, value, 1), brighter)


def contrast(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """Each channel is drawn to its mean over the image: `mean + factor (x - mean)`."""
    factor = at_severity(CONTRAST[levels], severity)
    mean = jnp.mean(image, axis=(0, 1), keepdims=True)
    return (image - mean) * factor + mean


def saturate(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The saturation is changed: less colour at severities 1 and 2, more from 3 on.

    Grey counts as red without saturation, so that at 4 and 5 it turns reddish, as in the published
    images.
    """
    factor, shift = at_severity(SATURATE[levels], severity)
    value, lowest = (f(image, axis=-1, keepdims=True) for f in (jnp.max, jnp.min))
    saturation = (value - lowest) / jnp.where(value > 0, value, 1)
    wanted = jnp.clip(saturation * factor + shift, 0, 1)
    red = jnp.array([0.0, 1.0, 1.0]).reshape(1, 1, 3)
    away = jnp.where(saturation > 0, value - image, red * value)  # from the value, at saturation
    return value - away * wanted / jnp.where(saturation > 0, saturation, 1)


_MOST_PHOTONS = 1024  # 500 are expected at most: 23 standard deviations more


def _search(below: jax.Array, row: jax.Array, u: jax.Array) -> jax.Array:
    """The first column of `below [rows, n]`, n a power of two, that exceeds u, by bisection."""
    columns = below.shape[1]
    flat, start = below.ravel(), row * columns
    found, step = jnp.zeros_like(row), columns // 2
    while step:
        found = jnp.where(flat[start + found + step - 1] <= u, found + step, found)
        step //= 2
    return found
