"""The corruption by spatter: drops of water or mud on the lens.

See "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (Hendrycks &
Dietterich, 2019), whose program shades the drops by OpenCV; its integer arithmetic is followed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.corruptions.edges import canny, edge_distance, moved
from regjax.corruptions.levels import at_severity
from regjax.corruptions.resampling import edge, resample, smoothing
from regjax.corruptions.severities import SPATTER, Levels

_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)


def spatter(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """Drops of shaded water at severities 1 to 3, of mud at 4 and 5.

    They are where smoothed noise is large. Where there is none of the water, the published program
    divides 0 by 0; here the image stays as it is. Where the noise is above 1, as it is now and then
    at severity 3, the water's height starts again from 0, as there.

    Args:
      image: `[H, W, 3]` in [0, 1].
      severity: `[]`, 1 to 5.
      key: draws the drops.
      levels: static.

    Returns:
      `[H, W, 3]`, not clipped.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> image = jnp.zeros((16, 16, 3))
      >>> spatter(image, jnp.array(5), jax.random.key(0)).shape
      (16, 16, 3)
    """
    table = SPATTER[levels]
    mean, deviation, _, least, strength = at_severity(table, severity)
    height, width, _ = image.shape
    liquid = mean + deviation * jax.random.normal(key, (height, width, 1), jnp.float32)
    smooths = (
        at_severity([smoothing(n, entry[2], 4, edge) for entry in table], severity)
        for n in (height, width)
    )
    liquid = resample(liquid, *smooths)[..., 0]
    liquid = jnp.where(liquid < least, 0, liquid)

    def water(image: jax.Array) -> jax.Array:
        shade = strength * shading(jnp.floor(liquid * 255) % 256)  # 8 bits, which wrap
        return image + shade[..., None] * jnp.array(_WATER).reshape(1, 1, 3)

    def mud(image: jax.Array) -> jax.Array:
        thick = (liquid > least).astype(jnp.float32)[..., None]
        cover = resample(thick, *(_smoothing(n, table[-1][-1]) for n in (height, width)))
        cover = jnp.where(cover < 0.8, 0, cover)
        return image * (1 - cover) + cover * jnp.array(_MUD).reshape(1, 1, 3)

    return jax.lax.cond(severity <= 3, water, mud, image)


def _smoothing(length: int, sigma: float) -> jax.Array:
    return jnp.asarray(smoothing(length, sigma, 4, edge), jnp.float32)


def shading(liquid: jax.Array) -> jax.Array:
    """How bright water is: an embossed map of the distance to its edges, times its height.

    Args:
      liquid: `[H, W]`, whole numbers from 0 to 255.

    Returns:
      `[H, W]`, at most 1; all 0 where it would be 0 everywhere.

    Example:
      >>> import jax.numpy as jnp
      >>> shading(jnp.zeros((8, 8)).at[2:6, 2:6].set(200)).max().item()
      1.0
    """
    distance = edge_distance(canny(liquid))
    height = _equalised(jnp.floor(_mean_of_nine(distance)))
    light = jnp.zeros_like(height)
    for i, row in enumerate(((-2, -1, 0), (-1, 1, 1), (0, 1, 2))):
        for j, weight in enumerate(row):
            light += weight * moved(height, i - 1, j - 1, "reflect")
    shade = liquid * jnp.round(_mean_of_nine(jnp.clip(light, 0, 255)))
    brightest = shade.max()
    return shade / jnp.where(brightest > 0, brightest, 1)


def _mean_of_nine(image: jax.Array) -> jax.Array:
    moves = (moved(image, i, j, "reflect") for i in (-1, 0, 1) for j in (-1, 0, 1))
    return sum(moves, start=jnp.zeros_like(image)) / 9


def _equalised(image: jax.Array) -> jax.Array:
    """Whole numbers from 0 to 20, spread over 0 to 255 so that all are about as frequent."""
    counts = jnp.sum(image[..., None] <= jnp.arange(21.0)[None, None], axis=(0, 1))
    at_or_below = counts[image.astype(jnp.int32)]
    lowest = at_or_below.min()
    others = image.size - lowest
    spread = jnp.round((at_or_below - lowest) * (255 / jnp.maximum(others, 1)))
    return jnp.where(others > 0, spread, image)
