"""How strong each operation is at each level, as a table of rows of `operations.py`."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from regjax.augment import operations
from regjax.augment.operations import ONE, Operation

#: RandAugment's, in torchvision's order.
RAND = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
NAMES = (*RAND, "invert")
_TOWARDS = {
    "brightness": operations.BLACK,
    "contrast": operations.MEAN,
    "color": operations.GREY,
    "sharpness": operations.SMOOTH,
}


def table(size: tuple[int, int], bins: int, as_in_program: bool = False) -> Operation:
    """Every operation at every level with both signs; those without a sign, twice the same.

    Levels are 0 to `bins - 1` and go to a shear of 0.3, 150/331 of the side, 30 degrees, 0.9 more
    or less of brightness and the like, 4 bits, and a threshold of 0.

    Args:
      size: height and width of the images.
      bins: the number of levels; at least 2.
      as_in_program: whether as in the program of ISDA's authors, that is DeepVoltaire's, instead of
        as in torchvision: shears by cubics, fractions of a pixel in translations, no sign of
        rotations, thresholds from 256 instead of 255 on.

    Returns:
      NumPy arrays with leading axes `[len(NAMES), bins, 2]`.

    Example:
      >>> table((32, 32), 10).factor[NAMES.index("color"), 4]
      array([0.6, 1.4], dtype=float32)
    """
    rows = [
        _row(name, level, bins - 1, sign, size, as_in_program)
        for name in NAMES
        for level in range(bins)
        for sign in (-1, 1)
    ]

    def column(*entries: Any) -> np.ndarray:
        kind = np.float32 if isinstance(entries[0], float) else np.int32
        return np.asarray(entries, kind).reshape(len(NAMES), bins, 2)

    return jax.tree.map(column, *rows)


def _row(
    name: str, level: int, last: int, sign: int, size: tuple[int, int], as_in_program: bool
) -> Operation:
    signed, share = sign * level / last, level / last
    white = 256 if as_in_program else 255
    if name in _TOWARDS:
        return Operation(towards=_TOWARDS[name], factor=1 + 0.9 * signed)
    if name == "posterize":
        return Operation(mask=256 - (1 << round(4 * share)))
    if name in ("solarize", "invert"):
        threshold = white - white * level / last if name == "solarize" else 0.0
        return Operation(threshold=threshold)
    if name in ("autocontrast", "equalize"):
        return Operation(stretch=getattr(operations, name.upper()))
    if name == "rotate":
        return _rotation(math.radians(30 * (share if as_in_program else signed)), size)
    kind, _, axis = name.partition("_")
    if kind == "shear":
        along = (int(axis == "x"), int(axis == "y")) if as_in_program else (0, 0)
        shear = 0.3 * signed
        place = _fixed(1, shear, 0, 0, 1, 0) if axis == "x" else _fixed(1, 0, 0, shear, 1, 0)
        return Operation(place=place, along=along)
    if kind == "translate":
        shift = 150 / 331 * size[axis == "x"] * signed
        shift = shift if as_in_program else int(shift)
        place = _fixed(1, 0, shift, 0, 1, 0) if axis == "x" else _fixed(1, 0, 0, 0, 1, shift)
        return Operation(place=place)
    return Operation()


def _rotation(angle: float, size: tuple[int, int]) -> Operation:
    """Counterclockwise, about the centre of the image."""
    (y, x), cos, sin = (side / 2 for side in size), math.cos(angle), math.sin(angle)
    return Operation(
        place=_fixed(cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    )


def _fixed(*place: float) -> tuple[int, ...]:
    """A map of points in 65536ths, of pixels by their centres."""
    a, b, c, d, e, f = place
    centred = (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
    return tuple(math.floor(each * ONE + 0.5) for each in centred)
