"""Sheets of the embedded digits with a class for every pixel, for trials without a download.

`config.dataset = "experiments.data.digit_masks:digit_masks"`.
"""

from pathlib import Path

import numpy as np

from experiments.data.dataset import IGNORED, Dataset, Split
from experiments.data.sources import load

SIDE = 3  # digits of a sheet, in either direction
INK, PAPER = 128, 64  # the least brightness of ink, the largest of paper; between them lies neither


def digit_masks(data_dir: Path, image_size: int) -> Dataset:
    """Reads the digits as sheets of nine: uint8 images [N, 24, 24, 1] and masks [N, 24, 24].

    Ink is of its digit's class and paper of class 0; what could be either is ignored.

    Args:
      data_dir: the folder of prepared data sets.
      image_size: 0, or 24.

    Raises:
      ValueError: another image size.

    Example:
      `digit_masks(Path("data"), 0).class_names[:2]` is `("paper", "0")`.
    """
    found = load("digits", data_dir)
    size = SIDE * found.train["image"].shape[1]
    if image_size not in (0, size):
        raise ValueError(f"Sheets of digits are of {size} x {size} pixels, not {image_size}.")
    names = ("paper", *found.class_names)
    return Dataset("digit_masks", _sheets(found.train), _sheets(found.test), len(names), names)


def _sheets(split: Split) -> Split:
    """Nine digits a sheet, in their order; the last ones that fill none are left out."""
    image, label = split["image"], split["label"].astype(np.uint8)
    mask = np.where(image[..., 0] >= INK, 1 + label[:, None, None], IGNORED)
    mask[image[..., 0] <= PAPER] = 0
    return {"image": _side_by_side(image), "label": _side_by_side(mask[..., None])[..., 0]}


def _side_by_side(x: np.ndarray) -> np.ndarray:
    """Sheets [N, 3 H, 3 W, K] of x [M, H, W, K]."""
    _, height, width, channels = x.shape
    sheets = x[: len(x) // SIDE**2 * SIDE**2].reshape(-1, SIDE, SIDE, height, width, channels)
    return sheets.swapaxes(2, 3).reshape(-1, SIDE * height, SIDE * width, channels)
