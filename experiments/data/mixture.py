"""Several data sets as one, of which every batch has stated shares."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from experiments.data.dataset import IGNORED, DataError, Dataset, Split


def join(dataset: Dataset, extras: Sequence[Dataset]) -> Dataset:
    """Joins data sets' training splits into one; what is scored is the first one's.

    Labels are matched by the names of the classes, or by number where one of the data sets has
    none but "0", "1", ... Uint8 and float images together become float32 in [0, 1].

    Args:
      dataset: whose name, classes and scored split the result has.
      extras: data sets to train on as well.

    Returns:
      A data set whose `parts` say which training examples come from which, in that order.

    Raises:
      DataError: if an extra data set has other images or other classes.

    Example:
      `join(cifar, [synthetic]).parts` is `(range(0, 50000), range(50000, 60000))`.
    """
    held_out = dataset.validation
    splits = [dataset.train, *(_matched(dataset, extra) for extra in extras)]
    measured = [dataset.test] if held_out is None else [dataset.test, held_out]
    floats = any(split["image"].dtype != np.uint8 for split in (*splits, *measured))
    if floats:
        splits = [_as_floats(split) for split in splits]
    ends = np.cumsum([0, *(len(split["label"]) for split in splits)]).tolist()
    return Dataset(
        dataset.name,
        {name: np.concatenate([split[name] for split in splits]) for name in dataset.train},
        _as_floats(dataset.test) if floats else dataset.test,
        dataset.classes,
        dataset.class_names,
        dataset.scored,
        tuple(map(range, ends[:-1], ends[1:])),
        about="\n".join(each.about for each in (dataset, *extras) if each.about),
        validation=_as_floats(held_out) if floats and held_out else held_out,
    )


def mixed_counts(batch_size: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Divides a batch by shares, rounded by largest remainder so that all its places are taken.

    Args:
      batch_size: examples in a batch.
      shares: of the extra data sets, each between 0 and 1, together less than 1.

    Returns:
      The number of examples of the first data set, which has the rest, and of each extra one.

    Raises:
      ValueError: if a share is out of range or gives no example.

    Example:
      `mixed_counts(128, [0.5, 0.1]) == (51, 64, 13)`
    """
    exact = [Fraction(str(float(share))) for share in shares]  # 0.1 is a tenth
    if not all(0 < share < 1 for share in exact) or sum(exact) >= 1:
        raise ValueError(
            "The shares of a mixture must be between 0 and 1, and together less than 1, but are "
            f"{', '.join(map(str, shares))}."
        )
    quotas = [batch_size * share for share in (1 - sum(exact), *exact)]
    counts = [math.floor(quota) for quota in quotas]
    # The sort is stable: of equal remainders, the first data set's goes first.
    order = sorted(range(len(quotas)), key=lambda i: counts[i] - quotas[i])
    for i in order[: batch_size - sum(counts)]:
        counts[i] += 1
    if not all(counts):
        raise ValueError(
            f"A batch of {batch_size} has no place for one of the shares "
            f"{', '.join(f'{float(quota / batch_size):g}' for quota in quotas)}: make the batch or "
            "the smallest share larger."
        )
    return tuple(counts)


def _matched(dataset: Dataset, extra: Dataset) -> Split:
    """The training split of an extra data set, with the labels of the first one."""
    kinds = [_kind(each) for each in (dataset, extra)]
    if kinds[0] != kinds[1] or set(dataset.train) != set(extra.train):
        raise DataError(
            f"{extra.name!r} has {kinds[1]}, but {dataset.name!r}, with which it is mixed, "
            f"{kinds[0]}: only data sets of images of one shape and of as many classes can be."
        )
    label = extra.train["label"]
    return {**extra.train, "label": _numbers(dataset, extra)[label].astype(label.dtype)}


def _kind(dataset: Dataset) -> str:
    label = "masks" if dataset.train["label"].ndim > 1 else "labels"
    shape = list(dataset.train["image"].shape[1:])
    return f"images {shape} and {label} of {dataset.classes} classes"


def _numbers(dataset: Dataset, extra: Dataset) -> np.ndarray:
    """For each label of an extra data set the first one's."""
    theirs, ours = list(extra.class_names), list(dataset.class_names)
    if [str(i) for i in range(dataset.classes)] in (theirs, ours):
        theirs = ours
    if other := sorted(set(theirs) - set(ours)):
        raise DataError(
            f"{extra.name!r} has the class {other[0]!r}, which {dataset.name!r}, with which it is "
            "mixed, has not: give it the same names, or none."
        )
    numbers = np.arange(IGNORED + 1 if dataset.train["label"].ndim > 1 else dataset.classes)
    numbers[: len(theirs)] = [ours.index(name) for name in theirs]
    return numbers


def _as_floats(split: Split) -> Split:
    image = split["image"]
    scaled = image.astype(np.float32) / np.float32(255) if image.dtype == np.uint8 else image
    return {**split, "image": scaled}
