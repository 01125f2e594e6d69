"""A data set with the training examples of others behind its own, each once an epoch."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.data import mixture
from experiments.data.dataset import DataError, Dataset, Joined

Other = tuple[Dataset, int | None]


def add(dataset: Dataset, others: Sequence[Other]) -> Dataset:
    """Adds the training examples of other data sets, whose classes and images are matched.

    Args:
      dataset: whose parts, test and validation split the result has.
      others: data sets, each with the seed whose runs alone see it, or None. One that has a
        `source` holds copies of the first part's training examples.

    Returns:
      A data set whose `joined` says what was added.

    Raises:
      DataError: if the images or classes are others, copies are not of these training examples, or
        runs of one seed would have more examples than those of another.

    Example:
      `add(digits, [(copies, None)]).joined[0].rows` is `range(1287, 3861)`.
    """
    whole = mixture.join(dataset, [other for other, _ in others])
    joined = tuple(
        Joined(other.name, rows, other.source, seed)
        for (other, seed), rows in zip(others, whole.parts[1:], strict=True)
    )
    label = whole.train["label"]
    for each in joined:
        _check_copies(each, dataset.parts[0], label)
    sizes = {sum(each.count(1) for each in of(joined, seed)) for seed in seeds(joined)}
    if len(sizes) > 1:
        raise DataError(
            f"{joined[0].name!r} and the other data sets of config.joined have for some seeds more "
            "images than for others, so that their runs could not be trained together: make all "
            "in the same way."
        )
    return dataclasses.replace(whole, parts=dataset.parts, joined=joined)


def of(joined: Sequence[Joined], seed: int | None) -> list[Joined]:
    """Those that the runs of a seed see."""
    return [each for each in joined if each.seed in (None, seed)]


def seeds(joined: Sequence[Joined]) -> list[int | None]:
    """The seeds of which some are; of seed None, where none is of one seed alone."""
    own = sorted({each.seed for each in joined if each.seed is not None})
    return [*own] or [None]


def _check_copies(joined: Joined, first: range, label: np.ndarray) -> None:
    source, rows = joined.source, slice(joined.rows.start, joined.rows.stop)
    if source is None:
        return
    known = source.size and source.min() >= 0 and source.max() < len(first)
    if not known or not np.array_equal(label[first.start :][source], label[rows]):
        raise DataError(
            f"{joined.name!r} holds copies of other images than these {len(first)} training "
            "images, or has them in another order: make copies of this data set."
        )
    counts = np.bincount(source)
    if set(counts[counts > 0]) != {joined.times}:
        raise DataError(
            f"{joined.name!r} has more copies of some images than of others, so that an epoch "
            "would have no length: make all in the same way."
        )
