"""Folders of images, one folder a class: `config.dataset = "folder:PATH"`."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.data import splitting
from experiments.data.dataset import DataError, MissingDataError
from experiments.data.items import Items, Opened, Options

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclasses.dataclass(frozen=True)
class Files:
    """The contents of files, as `items.Content`."""

    paths: tuple[str, ...]

    def __getitem__(self, number: int) -> bytes:
        """The content of a file."""
        return Path(self.paths[number]).read_bytes()

    def name_of(self, number: int) -> str:
        """The path of a file."""
        return self.paths[number]


def open_folder(name: str, path: str, options: Options) -> Opened:
    """Opens a folder of images.

    It has folders `train` and `test`, and perhaps `validation` (or `val`), which is scored where
    `test` is missing; in each of them there is a folder for every class. Or it has just a folder
    for every class, of which a share is then scored. Images lie in it at any depth. The classes are
    numbered in the order of their names.

    Args:
      name: of the data set.
      path: of the folder.
      options: how it is divided.

    Raises:
      MissingDataError: if there is no such folder.
      DataError: if it does not hold at least two classes of images.

    Example:
      `open_folder("folder:pets", "pets", Options()).class_names` is `("cats", "dogs")`.
    """
    folder = Path(path).expanduser()
    if not path or not folder.exists():
        raise MissingDataError(
            f"There is no folder {path and str(folder)!r}: config.dataset='folder:PATH' names one "
            "that has a folder of images for each class."
        )
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is no folder, as config.dataset='folder:PATH' must be.")
    splits = _splits(folder)
    if "train" in splits:
        return _apart(name, folder, splits, options)
    if splits:
        where = next(iter(splits.values()))
        raise DataError(
            f"{str(folder)!r} has a folder {where.name!r}, but none of training images: name one "
            "'train', or put all images into a folder for each class."
        )
    classes = _classes([folder])
    items, ignored = _items([folder], classes)[0]
    return splitting.opened(name, {"train": items}, _shown(classes), options, ignored)


def _splits(folder: Path) -> dict[str, Path]:
    """The folders of the splits that are there."""
    names = [each.name for each in _folders(folder)]
    found = splitting.named(repr(str(folder)), names)
    return {split: folder / name for split, name in found.items()}


def _apart(name: str, folder: Path, splits: dict[str, Path], options: Options) -> Opened:
    """Opens a folder whose training images are set apart."""
    folders = list(splits.values())
    others = {each.name for each in _folders(folder)} - {each.name for each in folders}
    classes = _classes(folders)
    found, ignored = zip(*_items(folders, classes), strict=True)
    notes = (*itertools.chain(*ignored), *splitting.left_out("beside its splits", others))
    of = name, dict(zip(splits, found, strict=True)), _shown(classes)
    return splitting.opened(*of, options, notes)


def _folders(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.iterdir()) if each.is_dir() and _is_seen(each.name)]


def _is_seen(name: str) -> bool:
    return not name.startswith((".", "__MACOSX"))


def _classes(folders: list[Path]) -> tuple[str, ...]:
    """The names of the class folders of all splits."""
    classes = tuple(sorted({each.name for folder in folders for each in _folders(folder)}))
    if len(classes) < 2:
        has = f"the folder {classes[0]!r} alone" if classes else "no folders"
        raise DataError(
            f"{str(folders[0])!r} has {has}, but classes are told from folders: put the images of "
            "each class into one that is named after it."
        )
    return classes


def _items(folders: list[Path], classes: tuple[str, ...]) -> list[tuple[Items, tuple[str, ...]]]:
    """Of every split its images, and what is to be said of files that are none."""
    found: list[tuple[Items, tuple[str, ...]]] = []
    for folder in folders:
        files = [(path, label) for label, c in enumerate(classes) for path in _files(folder / c)]
        images = [(path, label) for path, label in files if path.lower().endswith(SUFFIXES)]
        others = sorted({Path(p).suffix for p, _ in files if not p.lower().endswith(SUFFIXES)})
        if not images:
            raise DataError(
                f"There are no images in the folders of {str(folder)!r}"
                f"{', but files ' + ', '.join(map(repr, others[:5])) if others else ''}: images "
                f"are files {', '.join(SUFFIXES)}."
            )
        count = len(files) - len(images)
        names = ", ".join(each or "without a suffix" for each in others[:5])
        ignored = (f"Left out as no images in {folder}: {count} of {names}.",)
        paths, label = zip(*images, strict=True)
        items = Items(Files(paths), np.arange(len(paths)), np.array(label, np.int32))
        found.append((items, ignored if count else ()))
    return found


def _files(folder: Path) -> Iterator[str]:
    """The files below a folder, in an order that does not depend on the disk's."""
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(filter(_is_seen, folders))
        yield from (os.path.join(where, each) for each in sorted(files) if _is_seen(each))


def _shown(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Names that can be written, whatever the disk calls them."""
    return tuple(os.fsencode(name).decode("utf-8", "replace") for name in classes)
