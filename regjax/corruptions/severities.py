"""The published parameters of the five severities, of each corruption at three sizes of image.

Those of the authors' programs for CIFAR-10-C (32 x 32 pixels), Tiny-ImageNet-C (64 x 64) and
ImageNet-C (224 x 224) of "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (Hendrycks & Dietterich, 2019). Lengths are in pixels.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Levels = Literal["cifar", "tiny_imagenet", "imagenet"]


def _levels(
    cifar: tuple[Any, ...], tiny_imagenet: tuple[Any, ...], imagenet: tuple[Any, ...]
) -> dict[Levels, tuple[Any, ...]]:
    return {"cifar": cifar, "tiny_imagenet": tiny_imagenet, "imagenet": imagenet}


# Standard deviations; of speckle noise, times the pixel.
GAUSSIAN_NOISE = _levels(
    (0.04, 0.06, 0.08, 0.09, 0.10), (0.04, 0.08, 0.12, 0.15, 0.18), (0.08, 0.12, 0.18, 0.26, 0.38)
)
SPECKLE_NOISE = _levels(
    (0.06, 0.10, 0.12, 0.16, 0.20), (0.15, 0.20, 0.25, 0.30, 0.35), (0.15, 0.20, 0.35, 0.45, 0.60)
)
# Photons that a white pixel expects.
SHOT_NOISE = _levels((500, 250, 100, 75, 50), (250, 100, 50, 30, 15), (60, 25, 12, 5, 3))
# The share of the values that are hit.
IMPULSE_NOISE = _levels(
    (0.01, 0.02, 0.03, 0.05, 0.07), (0.01, 0.02, 0.05, 0.08, 0.14), (0.03, 0.06, 0.09, 0.17, 0.27)
)
# Standard deviation of the filter.
GAUSSIAN_BLUR = _levels((0.4, 0.6, 0.7, 0.8, 1), (0.5, 0.75, 1, 1.25, 1.5), (1, 2, 3, 4, 6))
# Standard deviation of the filter, how far pixels move at most, how many times.
GLASS_BLUR = _levels(
    ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
)
# Radius of the disk, standard deviation of what smooths it.
DEFOCUS_BLUR = _levels(
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
)
# Radius and standard deviation of the smear.
MOTION_BLUR = _levels(
    ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
)
# Factors of the enlargements, with the rounding errors of the programs, which decide sizes.
_ONE_PERCENT = tuple(np.arange(1, end, 0.01) for end in (1.06, 1.11, 1.16, 1.21, 1.26))
_LARGE = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
ZOOM_BLUR = _levels(
    _ONE_PERCENT, _ONE_PERCENT, tuple(np.arange(1, end, step) for end, step in _LARGE)
)
# The flakes' mean, standard deviation, size and least value, radius and standard deviation of the
# smear, and how much of the image's colour is kept.
SNOW = _levels(
    (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
)
# Factors of image and ice.
FROST = _levels(
    ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
    ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
)
# To what the photographs of ice are shrunk.
FROST_SCALE: dict[Levels, float] = {"cifar": 0.2, "tiny_imagenet": 0.3, "imagenet": 1.0}
# Thickness and decay.
FOG = _levels(
    ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
)
# The liquid's mean, standard deviation and smoothing, its least value, and the strength of the
# water (1 to 3) or the smoothing of the mud (4 and 5).
SPATTER = _levels(
    (
        (0.62, 0.1, 0.7, 0.7, 0.5),
        (0.65, 0.1, 0.8, 0.7, 0.5),
        (0.65, 0.3, 1.0, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6),
        (0.65, 0.1, 0.5, 0.68, 0.6),
    ),
    (
        (0.62, 0.1, 0.7, 0.7, 0.6),
        (0.65, 0.1, 0.8, 0.7, 0.6),
        (0.65, 0.3, 1.0, 0.69, 0.6),
        (0.65, 0.1, 0.7, 0.68, 0.6),
        (0.65, 0.1, 0.5, 0.67, 0.6),
    ),
    (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    ),
)
# What is added to the value.
BRIGHTNESS = _levels((0.05, 0.10, 0.15, 0.20, 0.30), *[(0.1, 0.2, 0.3, 0.4, 0.5)] * 2)
# What is left of deviations from the mean.
CONTRAST = _levels((0.75, 0.50, 0.40, 0.30, 0.15), *[(0.4, 0.3, 0.2, 0.1, 0.05)] * 2)
# Factor of the saturation, and what is added.
SATURATE = _levels(
    ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
    ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
)
JPEG_QUALITY = _levels((80, 65, 58, 50, 40), (65, 58, 50, 40, 25), (25, 18, 15, 10, 7))
# What the image is shrunk to.
PIXELATE = _levels(
    (0.95, 0.90, 0.85, 0.75, 0.65), (0.9, 0.8, 0.7, 0.6, 0.5), (0.6, 0.5, 0.4, 0.3, 0.25)
)


def _scaled(side: int, *table: tuple[float, float, float]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(side * part for part in row) for row in table)


# Factor and standard deviation of the displacements, how far the three points of the affine map
# are moved at most. 244 stands in the program, where 224 was meant.
ELASTIC = _levels(
    ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
    _scaled(
        64,
        (0, 0, 0.08),
        (0.05, 0.3, 0.06),
        (0.1, 0.08, 0.06),
        (0.1, 0.03, 0.03),
        (0.16, 0.03, 0.02),
    ),
    _scaled(
        244,
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ),
)
