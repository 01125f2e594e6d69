"""Cityscapes as its archives unpack: `config.dataset = "cityscapes:PATH"`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.data import masks
from experiments.data.dataset import DataError, MissingDataError
from experiments.data.image_folders import Files
from experiments.data.items import Dense, Items, Opened

IMAGES, MASKS = "leftImg8bit", "gtFine"
IMAGE_END, MASK_END = "_leftImg8bit.png", "_gtFine_labelIds.png"
_THREADS = 16  # that wait for the disk, mostly

Size = tuple[int, int]


def open_cityscapes(name: str, path: str) -> Opened:
    """Opens the folders `leftImg8bit` and `gtFine`, of images and of masks for every pixel.

    Image `leftImg8bit/train/CITY/NAME_leftImg8bit.png` has the mask
    `gtFine/train/CITY/NAME_gtFine_labelIds.png`, and what lies in `val` is scored. The ids in masks
    become the 19 classes that are evaluated; pixels of all others are ignored. Images are in the
    order of their cities' names and their own.

    Args:
      name: of the data set.
      path: of the folder that holds both.

    Raises:
      MissingDataError: if there is no such folder.
      DataError: if a split has no images, one has no mask, or not all are of one size.

    Example:
      `open_cityscapes("cityscapes:~/cityscapes", "~/cityscapes").class_names[0]` is `"road"`.
    """
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        raise MissingDataError(
            f"There is no folder {path and str(folder)!r}: config.dataset='cityscapes:PATH' names "
            f"one with the folders {IMAGES!r} and {MASKS!r}, as the data set's archives unpack."
        )
    train, val = (_paths(folder, split) for split in ("train", "val"))
    _check_sizes([*train, *val])
    return Opened(name, _items(train), _items(val), masks.CITYSCAPES.class_names, "validation")


def _paths(folder: Path, split: str) -> list[tuple[str, str]]:
    """A split's images with their masks."""
    images = sorted((folder / IMAGES / split).glob(f"*/*{IMAGE_END}"))
    if not images:
        raise DataError(
            f"There are no images {IMAGES}/{split}/CITY/*{IMAGE_END} in {str(folder)!r}: unpack "
            f"{IMAGES}_trainvaltest.zip and {MASKS}_trainvaltest.zip there."
        )
    pairs = []
    for image in images:
        number = image.name.removesuffix(IMAGE_END)
        mask = folder / MASKS / split / image.parent.name / f"{number}{MASK_END}"
        pairs.append((str(image), str(mask)))
    absent = [pair for pair in pairs if not Path(pair[1]).exists()]
    if absent:
        others = f", and {len(absent) - 1} more have none" if len(absent) > 1 else ""
        raise DataError(
            f"The image {absent[0][0]} has no mask {absent[0][1]}{others}: unpack "
            f"{MASKS}_trainvaltest.zip there."
        )
    return pairs


def _items(pairs: Sequence[tuple[str, str]]) -> Items:
    images, labels = zip(*pairs, strict=True)
    dense = Dense(Files(labels), masks.CITYSCAPES)
    return Items(Files(images), np.arange(len(pairs)), np.full(len(pairs), -1, np.int32), dense)


def _check_sizes(pairs: Sequence[tuple[str, str]]) -> None:
    """Refuses masks of other sizes than their images, and images of several."""
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(lambda pair: (_size(pair[0]), _size(pair[1])), pairs))
    first = next((size for size, _ in sizes if size), None)
    for (image, mask), found in zip(pairs, sizes, strict=True):
        ours, theirs = (size or first for size in found)
        if ours != theirs:
            raise DataError(
                f"The image {image} is of {_shown(ours)} pixels, but its mask {mask} of "
                f"{_shown(theirs)}: they must be of one size."
            )
        if ours != first:
            raise DataError(
                f"The image {image} is of {_shown(ours)} pixels, but the first one, {pairs[0][0]}, "
                f"of {_shown(first)}: they must be of one size."
            )


def _size(path: str) -> Size | None:
    """Height and width by the file's first bytes; None where whoever decodes it will complain."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError):
        return None


def _shown(size: Size | None) -> str:
    return " x ".join(map(str, size or ()))
