"""The images of some classes of a data set."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.data.dataset import DataError, Dataset, Split


def some_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set without the images of other classes.

    Args:
      dataset: of one class for each image and of one part.
      names: the names of the classes that are kept, which are numbered in this order.

    Raises:
      DataError: there is no class of a name, or none or all in one, or every pixel has a class.

    Example:
      `some_classes(load("digits"), ("0", "1")).classes == 2`
    """
    known = list(dataset.class_names)
    right = len({*names} & {*known}) == len(names) >= 2
    if not right or dataset.train["label"].ndim > 1:
        raise DataError(
            f"config.classes={tuple(names)} must be two or more classes of {dataset.name!r}, of "
            f"which each image has one: {', '.join(known)}."
        )
    numbers = np.full(len(known), -1)
    numbers[[known.index(name) for name in names]] = range(len(names))

    def kept(split: Split) -> Split:
        number = np.where(split["label"] < 0, -1, numbers[split["label"]])
        rows = number >= 0
        label = number[rows].astype(split["label"].dtype)
        return {**{name: x[rows] for name, x in split.items()}, "label": label}

    validation = dataset.validation and kept(dataset.validation)
    return dataclasses.replace(
        dataset,
        train=kept(dataset.train),
        test=kept(dataset.test),
        classes=len(names),
        class_names=tuple(names),
        parts=(),
        validation=validation,
    )
