"""Corruptions by resampling: pixelate and the elastic transform.

Each is a function of one image `[H, W, 3]` in [0, 1], a severity from 1 to 5, which may be traced,
a key, and the benchmark whose levels are meant; `regjax.corruptions` maps them over a batch and
clips. See "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(Hendrycks & Dietterich, 2019); parameters are in severities.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.sampling import sampled
from regjax.corruptions.levels import at_severity
from regjax.corruptions.resampling import coarsening, reflect, resample, smoothing
from regjax.corruptions.severities import ELASTIC, PIXELATE, Levels


def pixelate(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The image shrunk by a box filter, to 0.65 of its size at CIFAR's severity 5, and back.

    Along the width and then along the height, rounding to 255ths after each as Pillow does, which
    takes the height first where the image is far taller than wide.
    """

    def matrix(length: int) -> jax.Array:
        small = [max(int(length * kept), 1) for kept in PIXELATE[levels]]
        return at_severity([coarsening(length, each) for each in small], severity)

    height, width = image.shape[:2]
    # In whole levels, of which a mean that ends in a half is exact.
    whole = jnp.round(image * 255)
    halfway = jnp.floor(resample(whole, jnp.eye(height), matrix(width)) + 0.5)
    return jnp.floor(resample(halfway, matrix(height), jnp.eye(width)) + 0.5) / 255


def elastic_transform(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The image bent: by a random affine map, then by small smooth displacements.

    For CIFAR the map moves three points around the centre by up to 2.56 pixels (severity 1, down to
    0.96 at 5); the displacements are uniform noise smoothed by a Gaussian and scaled, larger and
    rougher with the severity, none at 1. The published images were moved by OpenCV, most of whose
    versions round places to 32nds of a pixel; here places are as they are.
    """
    scale, sigma, shift = zip(*ELASTIC[levels], strict=True)
    to_map, *to_bend = jax.random.split(key, 3)
    height, width, _ = image.shape
    places = _affine(to_map, (height, width), at_severity(shift, severity))
    image = sampled(image, places, "mirror")

    def displaced(key: jax.Array, place: jax.Array) -> jax.Array:
        noise = jax.random.uniform(key, (*place.shape, 1), jnp.float32, -1, 1)
        smooth = (
            at_severity([smoothing(length, s, 3, reflect) for s in sigma], severity)
            for length in place.shape
        )
        return place + at_severity(scale, severity) * resample(noise, *smooth)[..., 0]

    places = [displaced(*each) for each in zip(to_bend, _places((height, width)), strict=True)]
    return sampled(image, places, "reflect")


def _affine(key: jax.Array, size: tuple[int, int], shift: jax.Array) -> list[jax.Array]:
    """Where each pixel comes from, rows and columns `[H, W]`: three corners of a square move."""
    side = 2 * (min(size) // 3)
    corner = jnp.array([size[0] // 2 - side // 2, size[1] // 2 + side // 2], jnp.float32)
    moves = jax.random.uniform(key, (3, 2), jnp.float32, -1, 1) * shift
    # What the edges of the square that meet in the corner turn into: its rows and its columns.
    (a, b), (c, d) = side * jnp.eye(2) + jnp.stack([moves[1] - moves[0], moves[0] - moves[2]])
    row, column = _places(size) - (corner + moves[0]).reshape(2, 1, 1)
    factor = side / (a * d - b * c)
    return [
        corner[0] + factor * (d * row - c * column),
        corner[1] + factor * (a * column - b * row),
    ]


def _places(size: tuple[int, int]) -> jax.Array:
    """Row and column of each pixel, `[2, H, W]`."""
    return jnp.indices(size, jnp.float32)
