"""Examples that are streamed from the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.data.streams import Streams
from experiments.training.feeds import MEASURED, Feed, Measured, Member, rows_of_batches, stacked
from experiments.training.parallel import Parallel
from experiments.training.steps import NEVER
from experiments.training.task import Evaluation, Examples

AHEAD = 2  # batches that are put on the device while it computes on another


class Stream:
    """A data set that is read example by example; all its training images are trained on.

    Attributes:
      stored: None, for there is nothing in memory.
      streams: the opened data set.
      measured: the number of examples that an evaluation looks at.
      holds_out: whether there are examples to choose strengths by.
      images: the number of training examples.
    """

    stored: Any = None

    def __init__(self, streams: Streams, unlabeled: int = 0) -> None:
        """Takes over an opened data set, with so many images in a batch of the second stream."""
        self.streams, self.unlabeled = streams, unlabeled
        self.measured = streams.test_examples + streams.validation_examples
        self.holds_out = bool(streams.validation_examples)
        self.images = streams.examples

    def steps_per_epoch(self, size: int, batch: int) -> float:
        """Batches in an epoch: not whole, since they run on from epoch to epoch."""
        return self.streams.examples / batch

    def class_shares(self, size: int, batch: int) -> np.ndarray:
        """The share that each class has of the examples that are trained on, `[C]`."""
        counts = self.streams.class_counts
        return counts / counts.sum()

    def feed(self, program: Any, members: Sequence[Member], batch: int) -> Feed:
        """The feed of the one run."""
        return _StreamFeed(self, program, members, batch)


class _StreamFeed:
    """Batches as examples, which are read while the device computes."""

    def __init__(
        self, stream: Stream, program: Parallel, members: Sequence[Member], batch: int
    ) -> None:
        (member,) = members
        self._streams, self._program = stream.streams, program
        self._objectives, self._seeds = stacked(members)
        self._share = (jax.process_index(), jax.process_count())
        # Whole images with masks are large: as many are measured together as are trained on.
        self._most = batch if self._streams.dense else MEASURED
        self._sources = {"": stream.streams.train(batch, member.seed, *self._share)}
        if stream.unlabeled:
            second = stream.streams.unlabeled(stream.unlabeled, member.seed, *self._share)
            self._sources["unlabeled"] = second
        self._ahead: deque[tuple[Examples, dict[str, Any]]] = deque()
        self._state = self._where()

    def start(self) -> Any:
        return self._program.init(self._objectives, self._seeds)

    def advance(self, states: Any, step: int, count: int) -> tuple[Any, Any, Any]:
        each = []
        for _ in range(count):
            while len(self._ahead) < AHEAD:
                self._ahead.append((self._put(), self._where()))
            examples, self._state = self._ahead.popleft()
            states, metrics = self._program.step(states, self._objectives, self._seeds, examples)
            each.append(metrics)
        values = {name: np.array([float(m[name]) for m in each]) for name in each[0]}
        means = {name: value.mean(keepdims=True) for name, value in values.items()}
        broken = {name: _first_broken(value, step) for name, value in values.items()}
        return states, means, broken

    def _put(self) -> Examples:
        first, *second = (_examples(*next(source)) for source in self._sources.values())
        return self._program.place(first._replace(unlabeled=second[0] if second else None))

    def _where(self) -> dict[str, Any]:
        """The first stream's own state; the second's stands in it under its name."""
        first, *rest = ((name, source.state()) for name, source in self._sources.items())
        return {**first[1], **dict(rest)}

    def state(self) -> dict[str, Any]:
        return self._state

    def close(self) -> None:
        for source in self._sources.values():
            source.close()

    def restore(self, state: dict[str, Any]) -> None:
        self._ahead.clear()
        for name, source in self._sources.items():
            source.restore(state[name] if name else state)
        self._state = state

    def measure(
        self, states: Any, evaluation: Evaluation, *, examples: int = 0, stored: Any = None
    ) -> Measured:
        assert not examples
        assert stored is None
        streams = self._streams
        return self._measured(states, evaluation, streams.test, streams.test_examples)

    def _measured(
        self, states: Any, evaluation: Evaluation, read: Callable[..., Any], count: int
    ) -> Measured:
        """The measurements of all examples of a split."""
        parts: list[dict[str, np.ndarray]] = []
        rows = rows_of_batches(count, self._program.batch_multiple, self._most)
        for image, label, index, weight in read(rows, *self._share):
            placed = self._program.place(_examples(image, label, index, weight))
            found, weights = self._program.measure_examples(states, evaluation, placed)
            real = np.asarray(weights) > 0
            parts.append({name: np.asarray(x)[real] for name, x in found.items()})
        return {name: np.concatenate([p[name] for p in parts])[None] for name in parts[0]}

    def measure_held_out(self, states: Any, evaluation: Evaluation) -> Measured | None:
        streams = self._streams
        if not streams.validation_examples:
            return None
        return self._measured(states, evaluation, streams.validation, streams.validation_examples)


def _examples(image: Any, label: Any, index: Any, weight: Any = None) -> Examples:
    weight = np.ones(len(label), np.float32) if weight is None else weight
    return Examples({"image": image, "label": label}, index, weight)


def _first_broken(values: np.ndarray, step: int) -> np.ndarray:
    broken = np.flatnonzero(~np.isfinite(values))
    return np.array([step + broken[0] if len(broken) else NEVER])
