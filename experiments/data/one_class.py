"""A data set of many classes as one of two: a class and all others."""

import dataclasses

import numpy as np

from experiments.data.dataset import DataError, Dataset, Split

OTHERS = "others"


def one_class(dataset: Dataset, name: str) -> Dataset:
    """A data set whose class 1 is the named one, and class 0 all others.

    Args:
      dataset: of one class for each image.
      name: of one of its classes.

    Returns:
      The data set with classes "others" and the named one; -1, where there is no label, stays.

    Raises:
      DataError: there is no class of that name, or every pixel has a class.

    Example:
      `one_class(load("digits"), "7").class_names == ("others", "7")`
    """
    names = list(dataset.class_names)
    if name not in names or dataset.train["label"].ndim > 1:
        raise DataError(
            f"config.positive_class={name!r} must be a class of {dataset.name!r}, of which each "
            f"image has one: {', '.join(names)}."
        )
    number = names.index(name)

    def told(split: Split) -> Split:
        label = split["label"]
        return {**split, "label": np.where(label < 0, label, label == number).astype(label.dtype)}

    validation = dataset.validation and told(dataset.validation)
    return dataclasses.replace(
        dataset,
        train=told(dataset.train),
        test=told(dataset.test),
        classes=2,
        class_names=(OTHERS, name),
        validation=validation,
    )
