"""From opened items to arrays in memory or a split of a stream, and what is said of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from experiments.data import decoding
from experiments.data.dataset import (
    DataError,
    Dataset,
    Split,
    check_classes,
    check_one_size,
    check_split,
)
from experiments.data.items import Items, Opened, Options
from experiments.data.prepared import first_line

_THREADS = min(16, os.cpu_count() or 1)
_LISTED = 30  # classes that are listed one by one


class _Checked(NamedTuple):
    """The items of a split that can be read, and which cannot, as (name, reason)."""

    items: Items
    broken: list[tuple[str, str]]


def whole(opened: Opened, size: int, options: Options) -> Dataset:
    """Reads a data set into memory.

    Args:
      opened: the data set.
      size: height and width that images are brought to; 0 to leave them as they are, which is also
        done where all have that size.
      options: how they are resized, and what becomes of broken ones.

    Returns:
      The data set; its images have one channel where all images are grey.

    Raises:
      DataError: if an image cannot be read, or images or labels do not fit.
    """
    outlines = {split: _outlines(items, options) for split, items in opened.splits.items()}
    known = [each for found in outlines.values() for each in found if each]
    channels = max((each.channels for each in known), default=3)
    if {(each.height, each.width) for each in known} == {(size, size)}:
        size = 0
    arrays: dict[str, Split] = {}
    broken: list[tuple[str, str]] = []
    for split, items in opened.splits.items():
        where = f"the {split} split of {opened.name!r}"
        found, lost = _read(where, items, outlines[split], size, channels, options)
        if len(found["label"]) or split != "train":
            check_split(where, found, len(opened.class_names), opened.bounds)
        arrays[split], broken = found, broken + lost
    train, test, *own = arrays.values()
    return Dataset(
        opened.name,
        train,
        test,
        len(opened.class_names),
        opened.class_names,
        opened.scored,
        about=_about(opened, [found["label"] for found in arrays.values()], broken),
        validation=own[0] if own else None,
        source=None if opened.source is None else opened.source[opened.train.numbers],
    )


def sound(opened: Opened, options: Options) -> tuple[Opened, str]:
    """Leaves broken images out before they are streamed, where the options say so.

    Each is decoded once for that, a JPEG at an eighth of its size.

    Returns:
      The data set, and what is to be said of it.

    Raises:
      DataError: if a class has no training images, or none are left in another split.
    """
    found = {split: _Checked(items, []) for split, items in opened.splits.items()}
    if options.broken == "skip":
        found = {split: _decodable(items) for split, items in opened.splits.items()}
    kept = {split: each.items for split, each in found.items()}
    if not opened.dense:
        check_classes(opened.name, kept["train"].label, opened.class_names)
    for split, items in kept.items():
        if not len(items):
            raise DataError(f"There are no examples in the {split} split of {opened.name!r}.")
    broken = [each for checked in found.values() for each in checked.broken]
    about = _about(opened, [items.label for items in kept.values()], broken)
    return opened.replaced(kept), about


def channels_of(opened: Opened) -> int:
    """The channels of all images: 1 where all are grey; the first of colours ends the search."""
    most = 1
    for items in opened.splits.values():
        for place in range(len(items)):
            most = max(most, items.outline(place).channels)
            if most > 1:
                return most
    return most


def _each(function: Callable[[int], object], items: Items, skip: bool) -> list[tuple[int, str]]:
    """Calls a function for every place in threads, and returns the broken ones with the reasons."""

    def tried(place: int) -> str:
        try:
            function(place)
        except DataError as error:
            if not skip:
                raise
            cause = error.__cause__
            return first_line(cause if isinstance(cause, Exception) else error)
        return ""

    with ThreadPoolExecutor(_THREADS) as pool:  # Pillow's decoders run side by side
        reasons = list(pool.map(tried, range(len(items))))
    return [(place, reason) for place, reason in enumerate(reasons) if reason]


def _outlines(items: Items, options: Options) -> list[decoding.Outline | None]:
    """What is known of each image; None of broken ones."""
    found: list[decoding.Outline | None] = [None] * len(items)

    def look(place: int) -> None:
        found[place] = items.outline(place)

    _each(look, items, options.broken == "skip")
    return found


def _read(
    where: str,
    items: Items,
    outlines: Sequence[decoding.Outline | None],
    size: int,
    channels: int,
    options: Options,
) -> tuple[Split, list[tuple[str, str]]]:
    """A split in memory, and the broken images."""
    sizes = {(each.height, each.width) for each in outlines if each}
    if not size:
        check_one_size(where, sizes)
    shape = (size, size) if size or not sizes else next(iter(sizes))
    first = items.kept(0) if len(items) else b""
    floats = isinstance(first, np.ndarray) and first.dtype != np.uint8
    if floats and size:
        raise DataError(
            f"The images in {where} are floats, which are not resized: store them as "
            f"{size} x {size}, or choose another config.image_size."
        )
    image = np.empty((len(items), *shape, channels), np.float32 if floats else np.uint8)

    label = items.label if items.dense is None else np.empty(image.shape[:3], np.uint8)

    def fill(place: int) -> None:
        image[place] = items.decoded(place, size, channels, options.resize)
        if items.dense is not None:
            label[place] = items.mask(place, size, options.resize)

    lost = _each(fill, items, options.broken == "skip")
    split = {"image": image, "label": label}
    if lost:
        kept = np.setdiff1d(np.arange(len(items)), [place for place, _ in lost])
        split = {name: x[kept] for name, x in split.items()}
    return split, _named(items, lost)


def _decodable(items: Items) -> _Checked:
    """The items that can be decoded."""

    def decode(place: int) -> None:
        with items.explained(place):
            image = decoding.opened(items.kept(place))
            image.draft(image.mode, (1, 1))  # a JPEG at an eighth of its size
            image.load()
        if items.dense is not None:
            items.mask(place)

    lost = _each(decode, items, skip=True)
    kept = np.setdiff1d(np.arange(len(items)), [place for place, _ in lost])
    return _Checked(items.take(kept), _named(items, lost))


def _named(items: Items, lost: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    name_of, numbers = items.content.name_of, items.numbers
    return [(name_of(int(numbers[place])), reason) for place, reason in lost]


def _about(opened: Opened, labels: Sequence[np.ndarray], broken: Sequence[tuple[str, str]]) -> str:
    """Classes and counts of each split, and what was left out, in lines."""
    words = ["training", *list(opened.splits)[1:]]
    names = opened.class_names
    totals = [f"{len(label)} {word}" for label, word in zip(labels, words, strict=True)]
    of = f"{len(names)} classes" + (" of pixels" if opened.dense else "")
    lines = [f"{opened.name}: {', '.join(totals[:-1])} and {totals[-1]} images of {of}."]
    lines += [] if opened.dense else _listed(labels, names, words)
    lines += opened.notes
    if broken:
        noun = "image is" if len(broken) == 1 else "images are"
        lines.append(f"{len(broken)} broken {noun} left out (config.broken='skip'):")
        lines += [f"  {name}: {reason}" for name, reason in broken[:10]]
        lines += ["  ..."] if len(broken) > 10 else []
    return "\n".join(lines)


def _listed(
    labels: Sequence[np.ndarray], names: Sequence[str], words: Sequence[str]
) -> Iterator[str]:
    """How many images of each class there are in each split, a line for each class."""
    counts = np.stack([np.bincount(label, minlength=len(names)) for label in labels], axis=1)
    shown = np.arange(len(names))
    if len(names) > _LISTED:
        shown = np.array([counts[:, 0].argmin(), counts[:, 0].argmax()])
        yield "The smallest and the largest class:"
    for i in shown:
        each = ", ".join(f"{n} {word}" for n, word in zip(counts[i], words, strict=True))
        yield f"  {names[int(i)]}: {each}"
