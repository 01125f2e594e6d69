"""Subsets, epochs and second streams, as indices into a data set that stays where it is."""

import functools
from collections.abc import Sequence

import numpy as np

# Each purpose has a random stream of its own, so that equal seeds do not correlate them.
_SUBSET, _EPOCH, _ENDLESS, _BALANCED = 1, 2, 4, 6  # 3 and 5 are those of crops, in stripes.py
_BLOCKS = 1024  # rounds of the classes that are drawn together


def balanced_indices(label: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draws `per_class` examples of every class, without replacement.

    The classes take turns (0, 1, ..., C-1, 0, 1, ...), so that for one seed a smaller draw is the
    beginning of a larger one.

    Args:
      label: int [N], from 0 to C-1, every class present.
      per_class: examples of each class.
      seed: not negative.

    Returns:
      Indices into `label`, int32 [C * per_class].

    Raises:
      ValueError: if a class has too few examples.

    Example:
      `balanced_indices(np.array([0, 0, 1, 1]), per_class=1, seed=0)` has one 0 and one 1.
    """
    return split_indices(label, per_class, 0, seed)[0]


def split_indices(
    label: np.ndarray,
    train_per_class: int,
    validation_per_class: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a class-balanced training set and a disjoint, class-balanced validation set.

    Both come from one random order per class, the training set from its beginning and the
    validation set from its end. So for one seed neither depends on the other's size, and smaller
    draws are the beginnings of larger ones: all training sizes share one validation set.

    Args:
      label: int [N], from 0 to C-1, every class present.
      train_per_class: training examples of each class.
      validation_per_class: validation examples of each class.
      seed: not negative.
      class_names: what an error calls the classes; by default their numbers.

    Returns:
      Indices into `label`: int32 [C * train_per_class] and int32 [C * validation_per_class].

    Raises:
      ValueError: if a class has too few examples for both, or a number is negative.

    Example:
      `train, validation = split_indices(label, 50, 10, seed=0)`
    """
    if train_per_class < 0 or validation_per_class < 0:
        raise ValueError(
            "Examples per class must not be negative, but are "
            f"{train_per_class} for training and {validation_per_class} for validation."
        )
    needed = train_per_class + validation_per_class
    orders = _class_orders(label, needed, seed, class_names)
    train = [order[:train_per_class] for order in orders]
    validation = [order[::-1][:validation_per_class] for order in orders]
    # Transposed, the classes take turns.
    return np.ravel(np.transpose(train)), np.ravel(np.transpose(validation))


def _class_orders(
    label: np.ndarray, needed: int, seed: int, class_names: Sequence[str]
) -> list[np.ndarray]:
    """Returns for every class a random order of its examples, int32."""
    generator = np.random.default_rng((_SUBSET, seed))
    members = [np.flatnonzero(label == c) for c in range(int(np.max(label)) + 1)]
    for c, member in enumerate(members):
        if len(member) < needed:
            name = repr(class_names[c]) if class_names else c
            raise ValueError(
                f"Class {name} has {len(member)} examples, but {needed} of each class were asked "
                "for, to train on and to hold out: ask for fewer, or for all of them by "
                "config.train_sizes=(0,)."
            )
    return [generator.permutation(member).astype(np.int32) for member in members]


def epoch_batches(
    indices: np.ndarray, batch_size: int, epoch: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shuffles one epoch into batches in which every example stands exactly once.

    The last batch is filled up from the epoch's beginning with real examples of weight 0.

    Args:
      indices: of the examples, int [N], N at least 1.
      batch_size: examples in a batch.
      epoch: number of the epoch, from 0; each has an order of its own.
      seed: not negative.

    Returns:
      index: int32 [steps, batch_size], steps = ceil(N / batch_size).
      weight: float32 [steps, batch_size], 1, and 0 for the filling.

    Raises:
      ValueError: if there are no indices or the batch size is less than 1.

    Example:
      `epoch_batches(np.arange(5), 2, epoch=0, seed=0)[1]` is `[[1, 1], [1, 1], [1, 0]]`.
    """
    count = len(indices)
    _check_sizes(count, batch_size)
    # The seed comes last: beyond 32 bits it takes up the places that follow its own.
    order = np.random.default_rng((_EPOCH, epoch, seed)).permutation(indices)
    shape = (-(-count // batch_size), batch_size)
    weight = (np.arange(np.prod(shape)) < count).reshape(shape)
    return np.resize(order, shape).astype(np.int32), weight.astype(np.float32)


def unlabeled_indices(
    count: int, labeled: np.ndarray, held_out: np.ndarray, *, include_labeled: bool
) -> np.ndarray:
    """Chooses the training images that a run sees without their labels: all but those held out.

    Args:
      count: number of examples in the training split.
      labeled: indices of the run's training examples, int [n].
      held_out: indices of its validation examples, int [m].
      include_labeled: whether the run's training examples are among them too.

    Returns:
      Indices in ascending order, int32.

    Raises:
      ValueError: if none is left.

    Example:
      `unlabeled_indices(5, np.array([0, 3]), np.array([1]), include_labeled=False)` is `[2, 4]`.
    """
    left_out = held_out if include_labeled else np.concatenate([held_out, labeled])
    found = np.setdiff1d(np.arange(count, dtype=np.int32), left_out)
    if not len(found):
        raise ValueError(
            f"All {count} training images are trained on with their labels or held out, so that "
            "none is left without: train on fewer, or include the labelled ones."
        )
    return found


def endless_batches(
    indices: np.ndarray, batch_size: int, step: int, seed: int, stream: int = 0
) -> np.ndarray:
    """Draws the batch of one step of an endless stream, in which batches run on across epochs.

    Every epoch holds each example once, in an order of its own. The batch follows from the
    arguments, so that nothing need be kept to go on.

    Args:
      indices: of the examples, int [N], N at least 1.
      batch_size: examples in a batch, which may be more than N.
      step: number of the batch, from 0.
      seed: not negative.
      stream: from 0; the orders of several streams of one seed do not depend on each other.

    Returns:
      Indices of the batch, int32 [batch_size].

    Raises:
      ValueError: if there are no indices or the batch size is less than 1.

    Example:
      `endless_batches(np.arange(3), 6, step=0, seed=0)` has every number twice.
    """
    count = len(indices)
    _check_sizes(count, batch_size)
    epochs, places = np.divmod(step * batch_size + np.arange(batch_size), count)
    parts = [
        _kept_order(count, int(epoch), seed, stream)[places[epochs == epoch]]
        for epoch in np.unique(epochs)
    ]
    return np.asarray(indices, np.int32)[np.concatenate(parts)]


def endless_order(count: int, epoch: int, seed: int, stream: int = 0) -> np.ndarray:
    """Returns the order in which an epoch of `endless_batches` goes through `count` examples."""
    generator = np.random.default_rng((_ENDLESS, stream, epoch, seed))
    return generator.permutation(np.arange(count, dtype=np.int32))


# The next batch needs the same one, and many runs of a sweep take turns.
_kept_order = functools.lru_cache(maxsize=128)(endless_order)


def balanced_batches(
    indices: np.ndarray, label: np.ndarray, batch_size: int, step: int, seed: int
) -> np.ndarray:
    """Draws the batch of one step of an endless stream in which all classes are equally frequent.

    Every C examples in a row are one of each class that occurs, in an order of their own, and a
    class's examples are drawn in epochs, each once. The batch follows from the arguments.

    Args:
      indices: of the examples, int [N], N at least 1.
      label: the class of each of them, int [N].
      batch_size: examples in a batch.
      step: number of the batch, from 0.
      seed: not negative.

    Returns:
      Indices of the batch, int32 [batch_size].

    Raises:
      ValueError: if there are no indices or the batch size is less than 1.

    Example:
      Of `balanced_batches(np.arange(3), np.array([0, 0, 1]), 4, step=0, seed=0)` two are 2.
    """
    _check_sizes(len(indices), batch_size)
    members = [np.asarray(indices, np.int32)[label == c] for c in np.unique(label)]
    rounds, turns = np.divmod(step * batch_size + np.arange(batch_size), len(members))
    drawn = np.empty(batch_size, np.int32)
    for i, (number, turn) in enumerate(zip(rounds.tolist(), turns.tolist(), strict=True)):
        block, place = divmod(number, _BLOCKS)
        c = int(_kept_rounds(len(members), block, seed)[place, turn])
        epoch, place = divmod(number, len(members[c]))
        # Stream 0 is that of images without labels.
        drawn[i] = members[c][_kept_order(len(members[c]), epoch, seed, c + 1)[place]]
    return drawn


def _rounds(classes: int, block: int, seed: int) -> np.ndarray:
    """The order of the classes in each of many rounds, `[_BLOCKS, classes]`."""
    generator = np.random.default_rng((_BALANCED, block, seed))
    return generator.permuted(np.tile(np.arange(classes), (_BLOCKS, 1)), axis=1)


_kept_rounds = functools.lru_cache(maxsize=32)(_rounds)


def _check_sizes(count: int, batch_size: int) -> None:
    if count < 1 or batch_size < 1:
        raise ValueError(
            f"Batches need at least one example and one place, but there are {count} examples "
            f"for batches of {batch_size}."
        )
