"""A data set with the training examples of others behind its own, each once an epoch."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

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
      DataError: if the images or classes are others, copies are not of these training examples,
        runs of one seed would have more examples than those of another, or one without a `source`
        repeats images of the first, which a run may hold out or is scored on.

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
    _check_others(whole, joined)
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


def _check_others(whole: Dataset, joined: Sequence[Joined]) -> None:
    """Looks whether images that come with any run are among those that some run must not see."""
    others = [each for each in joined if each.source is None]
    if not others:
        return
    image = whole.train["image"]
    own = [whole.test, *([whole.validation] if whole.validation else [])]
    known = {*_digests(image[: len(whole.parts[0])])}.union(*(_digests(x["image"]) for x in own))
    for each in others:
        repeated = [d in known for d in _digests(image[each.rows.start : each.rows.stop])]
        if any(repeated):
            raise DataError(
                f"{each.name!r} repeats {sum(repeated)} images of {whole.name!r}, the first at "
                f"{repeated.index(True)}, which runs may hold out or are scored on: leave them "
                "out, or say by an array 'train_source' of which training image each is a copy."
            )


def _digests(image: np.ndarray) -> Iterator[bytes]:
    """Of each image one; the same for a uint8 image and for its shares of 255."""
    for each in image:
        # What is stored as shares may differ by a rounding error.
        whole = each if each.dtype == np.uint8 else np.rint(each * np.float32(8 * 255))
        yield hashlib.blake2b(whole.tobytes(), digest_size=16).digest()


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
