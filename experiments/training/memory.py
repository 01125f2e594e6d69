"""Examples that are whole in device memory, and the rows of every step on them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.data import joining, mixture, subsets
from experiments.data.dataset import IGNORED, Dataset, Joined, check_classes
from experiments.training.feeds import (
    MEASURED,
    STEPS_PER_CALL,
    Feed,
    Measured,
    Member,
    rows_of_batches,
    spaced,
    stacked,
)
from experiments.training.sweep import Sweep
from experiments.training.task import Evaluation, Rows


class Memory:
    """A data set that is whole in device memory; examples are held out class by class.

    Where labels are dense there are no classes to hold out by: all examples count as of one.

    Attributes:
      measured: the number of examples that an evaluation looks at.
      images: the number of training examples of the first part, held out ones too.
      stored: the training, test and validation examples, one after the other.
      holds_out: whether there are examples to choose strengths by.
      dense: whether labels are of pixels.
    """

    def __init__(
        self,
        dataset: Dataset,
        held_out: int = 0,
        shares: Mapping[str, float] | None = None,
        unlabeled: int = 0,
        unlabeled_includes_labeled: bool = False,
        balanced: bool = False,
        included: bool = False,
        equal_updates: bool = False,
        owners: Sequence[int | None] = (),
    ) -> None:
        """Takes over a data set.

        Args:
          dataset: its first part is trained on by subsets, its other parts by their shares.
          held_out: training examples a class that are not trained on.
          shares: of each batch, of the other parts.
          unlabeled: examples in a batch of the second stream; 0 for none.
          unlabeled_includes_labeled: whether it holds those too whose labels are known.
          balanced: whether classes are drawn equally often, from the first part.
          included: whether a training size is of the examples that are held out too.
          equal_updates: whether an epoch has as many steps as without the joined examples.
          owners: of each of the other parts the seed whose runs alone see it, or None.
        """
        join = functools.partial(jax.tree.map, lambda a, b: np.concatenate([a, b]))
        own = None if held_out else dataset.validation
        splits = [dataset.train, dataset.test, *([] if own is None else [own])]
        self.stored: Any = functools.reduce(join, splits)
        self._parts = dataset.parts
        self._joined, self._equal_updates = dataset.joined, equal_updates
        owners = owners or [None] * len(dataset.parts[1:])
        others = (np.asarray(part, np.int32) for part in dataset.parts[1:])
        self._others = list(zip(owners, others, strict=True))
        self._labels = np.asarray(dataset.train["label"])
        label = self._labels[: len(self._parts[0])]
        self._names, self.balanced = dataset.class_names, balanced
        self.dense = label.ndim > 1
        self._label = np.zeros(len(label), np.int32) if self.dense else label
        self._strata = 1 if self.dense else dataset.classes
        if not self.dense:
            check_classes(dataset.name, label, dataset.class_names)
        self._held_out, self.shares = held_out, tuple((shares or {}).values())
        self._put_aside = held_out if included else 0  # of those of a size
        self.unlabeled, self._includes_labeled = unlabeled, unlabeled_includes_labeled
        trained = len(self._labels)
        ends = trained + np.cumsum([0, *(len(split["label"]) for split in splits[1:])])
        self.tests, *more = (np.arange(a, b, dtype=np.int32) for a, b in itertools.pairwise(ends))
        # The data set's own, where no training images are held out.
        self.validation = more[0] if more else None
        self.holds_out = bool(held_out or more)
        held = len(more[0]) if more else held_out * self._strata
        self.measured = len(self.tests) + held
        self.images = len(self._label)

    def indices(self, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation examples, for a training size per class, 0 for all."""
        apart = 0 if size and self._put_aside else self._held_out
        names = self._names if self._strata > 1 else ()
        train, held_out = subsets.split_indices(self._label, size, apart, seed, names)
        if size and self._put_aside:  # the classes take turns
            train, held_out = np.split(train, [self._trained(size)])
        if size == 0:
            train = np.setdiff1d(np.arange(len(self._label), dtype=np.int32), held_out)
        more = [each.beside(train) for each in joining.of(self._joined, seed)]
        return np.concatenate([train, *more]), held_out

    def _trained(self, size: int) -> int:
        """The number of examples of the first part that are trained on."""
        if size:
            return (size - self._put_aside) * self._strata
        return len(self._label) - self._held_out * self._strata

    def drawn(self, index: np.ndarray, batch: int, step: int, seed: int) -> np.ndarray:
        """A step's examples of the first part, of which all classes are drawn equally often."""
        label = self._labels if self._labels.ndim == 1 else np.zeros(len(self._labels), np.int32)
        return subsets.balanced_batches(index, label[index], batch, step, seed)

    def class_shares(self, size: int, batch: int) -> np.ndarray:
        """The share that each class has of the examples that are trained on, `[C]`."""
        count = np.bincount(self._label, minlength=self._strata) - self._held_out
        count = np.full(self._strata, size) if size else count
        count = count + self._joined_counts(count)
        owned = [owner for owner, _ in self._others if owner is not None]
        first = self.others(min(owned, default=0))
        each = [
            count,
            *(np.bincount(self._labels[part], minlength=self._strata) for part in first),
        ]
        counts = np.asarray(self.counts(batch)) / batch
        return np.sum([c * n / n.sum() for c, n in zip(counts, each, strict=True)], axis=0)

    def pixel_counts(self) -> np.ndarray:
        """How many pixels of each class the training images of the first part have, `[N, C]`."""
        masks = self._labels[: self.images].reshape(self.images, -1)
        counts = [np.bincount(mask, minlength=IGNORED + 1)[: len(self._names)] for mask in masks]
        return np.stack(counts)

    def _of_a_seed(self) -> list[Joined]:
        """What the runs of one seed see beside the first part; those of another see as much."""
        return joining.of(self._joined, joining.seeds(self._joined)[0])

    def _joined_counts(self, count: np.ndarray) -> np.ndarray:
        """The joined examples of each class that come with so many."""
        found = np.zeros(self._strata, np.int64)
        for each in self._of_a_seed():
            label = self._labels[each.rows.start : each.rows.stop]
            own = np.bincount(label, minlength=self._strata) if each.source is None else 0
            found += own + each.times * count
        return found

    def unlabeled_indices(self, size: int, seed: int) -> np.ndarray:
        """The examples of the second stream."""
        known = self.indices(size, seed)
        both = self._includes_labeled
        return subsets.unlabeled_indices(len(self._label), *known, include_labeled=both)

    def others(self, seed: int) -> list[np.ndarray]:
        """The examples of every other part of the data set that the runs of a seed see."""
        return [part for owner, part in self._others if owner in (None, seed)]

    def counts(self, batch: int) -> tuple[int, ...]:
        """How many examples of a batch are of each part."""
        return mixture.mixed_counts(batch, self.shares)

    def steps_per_epoch(self, size: int, batch: int) -> float:
        """Batches in an epoch of the first part, the last of which may be filled up."""
        examples = self._trained(size)
        if not self._equal_updates:
            examples += sum(each.count(examples) for each in self._of_a_seed())
        return -(-examples // self.counts(batch)[0])

    def feed(self, program: Any, members: Sequence[Member], batch: int) -> Feed:
        """The feed of runs of one size."""
        return _MemoryFeed(self, program, members, batch)


class _MemoryFeed:
    """Batches as rows of the stored data."""

    def __init__(
        self, memory: Memory, program: Sweep, members: Sequence[Member], batch: int
    ) -> None:
        self._memory, self._program, self._real = memory, program, len(members)
        # A sharded sweep needs as many runs on every device: the last one stands in.
        self._members = [*members, *[members[-1]] * (-len(members) % program.runs_multiple)]
        self._objectives, self._seeds = stacked(self._members)
        self._train = {m.seed: memory.indices(m.size, m.seed)[0] for m in members}
        self._counts = memory.counts(batch)
        # Whole images with masks are large: as many are measured together as are trained on.
        self._most = batch if memory.dense else MEASURED
        self._epoch = functools.lru_cache(2 * len(self._members))(self._new_epoch)
        self._pool = functools.cache(functools.partial(memory.unlabeled_indices, members[0].size))

    def start(self) -> Any:
        return self._program.init(self._objectives, self._seeds)

    def advance(self, states: Any, step: int, count: int) -> tuple[Any, Any, Any]:
        each = [self._rows(member.seed, step, count) for member in self._members]
        rows = jax.tree.map(lambda *parts: np.stack(parts), *each)
        states, *metrics = self._program.advance(states, self._objectives, self._seeds, rows, count)
        means, broken = jax.tree.map(lambda x: np.asarray(x)[: self._real], metrics)
        return states, means, broken

    def _rows(self, seed: int, step: int, count: int) -> Rows:
        """The rows of the steps from one on, as many as the compiled program expects."""
        each = [self._rows_of_step(seed, i) for i in range(step, step + count)]
        missing = [(0, STEPS_PER_CALL - count), (0, 0)]
        return jax.tree.map(lambda *parts: np.pad(np.stack(parts), missing), *each)

    def _rows_of_step(self, seed: int, step: int) -> Rows:
        index, weight = self._first(seed, step)
        drawn = [
            subsets.endless_batches(part, count, step, seed, number)
            for number, (part, count) in enumerate(
                zip(self._memory.others(seed), self._counts[1:], strict=True), 1
            )
        ]
        index = np.concatenate([index, *drawn])
        weight = np.concatenate([weight, *(np.ones(len(d), np.float32) for d in drawn)])
        rows = _filled(index, self._program.batch_multiple, weight)
        return rows._replace(unlabeled=self._unlabeled(seed, step))

    def _first(self, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the first part."""
        train, count = self._train[seed], self._counts[0]
        if self._memory.balanced:
            index = self._memory.drawn(train, count, step, seed)
            return index, np.ones(count, np.float32)
        length = -(-len(train) // count)
        index, weight = (part[step % length] for part in self._epoch(seed, step // length))
        return index, weight

    def _unlabeled(self, seed: int, step: int) -> Rows | None:
        """The rows of the second stream."""
        if not self._memory.unlabeled:
            return None
        index = subsets.endless_batches(self._pool(seed), self._memory.unlabeled, step, seed)
        return _filled(index, self._program.batch_multiple)

    def _new_epoch(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return subsets.epoch_batches(self._train[seed], self._counts[0], epoch, seed)

    def state(self) -> dict[str, Any]:
        return {}  # a batch follows from the step

    def close(self) -> None:
        pass

    def restore(self, state: dict[str, Any]) -> None:
        pass

    def measure(
        self, states: Any, evaluation: Evaluation, *, examples: int = 0, stored: Any = None
    ) -> Measured:
        tests = self._memory.tests
        if stored is not None:
            tests = np.arange(len(stored["label"]), dtype=np.int32)
        number = spaced(len(tests), examples)
        index = np.stack([tests[number]] * len(self._members))
        return self._measured(
            states, evaluation, index, np.broadcast_to(number, index.shape), stored
        )

    def measure_held_out(self, states: Any, evaluation: Evaluation) -> Measured | None:
        own = self._memory.validation
        if own is not None:
            index = np.stack([own] * len(self._members))
            number = np.broadcast_to(np.arange(len(own), dtype=np.int32), index.shape)
            return self._measured(states, evaluation, index, number, None)
        index = np.stack([self._memory.indices(m.size, m.seed)[1] for m in self._members])
        return self._measured(states, evaluation, index, index, None) if index.size else None

    def _measured(
        self, states: Any, evaluation: Evaluation, index: Any, number: Any, stored: Any
    ) -> Measured:
        """Measurements of examples `[R, N]`, in batches of one size, the last filled up."""
        size = index.shape[1]
        batch = rows_of_batches(size, self._program.batch_multiple, self._most)

        def batched(x: np.ndarray) -> np.ndarray:
            padded = np.resize(x, (len(x), -(-size // batch) * batch))
            padded[:, :size] = x
            return padded.reshape(len(x), -1, batch)

        rows = Rows(batched(index), np.ones_like(batched(index), np.float32), batched(number))
        found = self._program.measure(states, evaluation, rows, stored)
        return {name: np.asarray(x)[: self._real, :size] for name, x in found.items()}


def _filled(index: np.ndarray, multiple: int, weight: np.ndarray | None = None) -> Rows:
    """Rows filled up to a multiple with examples of weight 0, real ones for BatchNorm's sake."""
    missing = (0, -len(index) % multiple)
    given = np.ones(len(index), np.float32) if weight is None else weight
    return Rows(np.pad(index, missing, mode="wrap"), np.pad(given, missing))
