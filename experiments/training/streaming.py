"""Examples that are streamed from the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from experiments.data.streams import Streams
from experiments.evaluation import classification as scores
from experiments.evaluation.perturbed import Perturbation
from experiments.runs.plan import Run, stacked
from experiments.training import step as training
from experiments.training.loop import Feed, Scores
from experiments.training.parallel import Parallel

AHEAD = 2  # batches that are put on the device while it computes on another


class Stream:
    """A data set that is read example by example; all its training images are trained on.

    Attributes:
      data: None, for there is none in memory.
      classes: C.
      shape: of an image.
    """

    data: Any = None

    def __init__(self, streams: Streams) -> None:
        """Takes over an opened data set."""
        self.streams, self.classes, self.shape = streams, streams.classes, streams.shape

    def steps_per_epoch(self, size: int, batch: int) -> float:
        """Not whole, since batches run on from epoch to epoch."""
        return self.streams.examples / batch

    def feed(self, program: Any, runs: Sequence[Run], batch: int) -> Feed:
        """The feed of the one run."""
        return _StreamFeed(self.streams, program, runs, batch)


class _StreamFeed:
    """Batches from the disk, put on the device while it still computes on the ones before."""

    def __init__(
        self, streams: Streams, program: Parallel, runs: Sequence[Run], batch: int
    ) -> None:
        self._streams, self._program, self._batch = streams, program, batch
        self._losses, self._seeds = stacked(runs)
        self._share = (jax.process_index(), jax.process_count())
        self._source = streams.train(batch, runs[0].seed, *self._share)
        self._state = self._source.state()
        self._ahead: deque[tuple[list[jax.Array], dict[str, Any]]] = deque()

    def start(self) -> Any:
        return self._program.init(self._losses, self._seeds)

    def advance(self, states: Any, step: int, count: int) -> tuple[Any, Any, Any]:
        each = []
        for _ in range(count):
            while len(self._ahead) < AHEAD:
                self._ahead.append((self._put(), self._source.state()))
            batch, self._state = self._ahead.popleft()
            states, metrics = self._program.step(states, self._losses, self._seeds, batch)
            each.append(metrics)
        values = {name: np.array([float(m[name]) for m in each]) for name in each[0]}
        means = {name: value.mean(keepdims=True) for name, value in values.items()}
        broken = {name: _first_broken(value, step) for name, value in values.items()}
        return states, means, broken

    def _put(self) -> list[jax.Array]:
        image, label, index = next(self._source)
        return self._program.place((image, label, index, np.ones(len(label), np.float32)))

    def state(self) -> dict[str, Any]:
        return self._state

    def close(self) -> None:
        self._source.close()

    def restore(self, state: dict[str, Any]) -> None:
        self._ahead.clear()
        self._source.restore(state)
        self._state = state

    def evaluate(self, states: Any) -> Scores:
        parts = list(self._predictions(states))
        logits, label, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        real = weight > 0
        found = scores.of_runs(logits[None, real], label[None, real], int(real.sum()))
        return {name: np.asarray(values) for name, values in found.items()}

    def perturbed(self, states: Any, perturbation: Perturbation) -> Scores:
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        multiple = self._program.batch_multiple
        rows = -(-scores.BATCH // multiple) * multiple
        for part in self._streams.test(rows, *self._share):
            placed = self._program.place(part)
            logits, label, weight = map(
                np.asarray, self._program.perturbed(states, perturbation, placed)
            )
            parts.append((logits[:, weight > 0], label[weight > 0]))
        logits = np.concatenate([each for each, _ in parts], 1)
        found = scores.at_levels(logits[None], np.concatenate([each for _, each in parts]))
        return {name: np.asarray(values) for name, values in found.items()}

    def _predictions(self, states: Any) -> Iterator[tuple[np.ndarray, ...]]:
        multiple = self._program.batch_multiple
        rows = -(-scores.BATCH // multiple) * multiple
        for image, label, _, weight in self._streams.test(rows, *self._share):
            batch = self._program.place((image, label, weight))
            yield tuple(map(np.asarray, self._program.predict(states, batch)))


def _first_broken(values: np.ndarray, step: int) -> np.ndarray:
    broken = np.flatnonzero(~np.isfinite(values))
    return np.array([step + broken[0] if len(broken) else training.NEVER])
