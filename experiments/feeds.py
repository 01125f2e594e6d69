"""Where a group's examples come from: data in device memory, or a stream from the disk."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import regjax as rj
from experiments import training
from experiments.comparison import Run
from experiments.data import sources, subsets
from experiments.data.streams import Streams
from experiments.loop import STEPS_PER_CALL, Feed, Scores
from experiments.parallel import Parallel
from experiments.sweep import Sweep, stack

EVALUATION_BATCH = 250
AHEAD = 2  # batches that are put on the device while it computes on another


def _stacked(runs: Sequence[Run]) -> tuple[rj.Loss, np.ndarray]:
    losses = stack([rj.parse(run.loss) for run in runs])
    return losses, np.asarray([run.seed for run in runs], np.uint32)


class Memory:
    """A data set that is whole in device memory; images are held out class by class.

    Attributes:
      data: training and test images, one after the other.
      classes: C.
      shape: of an image.
    """

    def __init__(self, dataset: sources.Dataset, held_out: int) -> None:
        """Takes over a data set, of which `held_out` training images a class are not trained on."""
        both = zip(dataset.train, dataset.test, strict=True)
        self.data: Any = training.Data(*map(np.concatenate, both))  # type: ignore[arg-type]
        self._label = np.asarray(self.data.label)
        self.classes, self.shape = dataset.classes, dataset.train.image.shape[1:]
        self._train, self._held_out = dataset.train.label, held_out
        self.tests = len(self._train) + np.arange(len(dataset.test.label), dtype=np.int32)

    def indices(self, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation examples, for a training size per class, 0 for all."""
        train, held_out = subsets.split_indices(self._train, size, self._held_out, seed)
        if size == 0:
            train = np.setdiff1d(np.arange(len(self._train), dtype=np.int32), held_out)
        return train, held_out

    def labels(self, index: np.ndarray) -> np.ndarray:
        """The classes of examples."""
        return self._label[index]

    def steps_per_epoch(self, size: int, batch: int) -> float:
        """Batches in an epoch, the last of which may be filled up."""
        rest = len(self._train) - self._held_out * self.classes
        return -(-(size * self.classes or rest) // batch)

    def feed(self, program: Any, runs: Sequence[Run], batch: int) -> Feed:
        """The feed of runs of one size."""
        return _MemoryFeed(self, program, runs, batch)


class _MemoryFeed:
    """Batches as indices into the data."""

    def __init__(self, memory: Memory, program: Sweep, runs: Sequence[Run], batch: int) -> None:
        self._memory, self._program, self._real = memory, program, len(runs)
        # A sharded sweep needs as many runs on every device: the last one stands in.
        self._runs = [*runs, *[runs[-1]] * (-len(runs) % program.runs_multiple)]
        self._losses, self._seeds = _stacked(self._runs)
        self._train = {run.seed: memory.indices(run.train_size, run.seed)[0] for run in runs}
        self._batch = batch
        self._epoch = functools.lru_cache(2 * len(self._runs))(self._new_epoch)

    def start(self) -> Any:
        return self._program.init(self._losses, self._seeds)

    def advance(self, states: Any, step: int, count: int) -> tuple[Any, Any, Any]:
        each = [self._batches(run.seed, step, count) for run in self._runs]
        index, weight = (np.stack(part) for part in zip(*each, strict=True))
        states, *metrics = self._program.advance(
            states, self._losses, self._seeds, index, weight, count
        )
        means, broken = jax.tree.map(lambda x: np.asarray(x)[: self._real], metrics)
        return states, means, broken

    def _batches(self, seed: int, step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Index and weight of the steps from one on, as many as the compiled program expects."""
        length = -(-len(self._train[seed]) // self._batch)
        each = [
            [part[i % length] for part in self._epoch(seed, i // length)]
            for i in range(step, step + count)
        ]
        missing = [(0, STEPS_PER_CALL - count), (0, 0)]
        index, weight = (np.pad(np.stack(part), missing) for part in zip(*each, strict=True))
        return index, weight

    def _new_epoch(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        batches = subsets.epoch_batches(self._train[seed], self._batch, epoch, seed)
        return _filled(*batches, self._program.batch_multiple)

    def state(self) -> dict[str, Any]:
        return {}  # a batch follows from the step

    def close(self) -> None:
        pass

    def restore(self, state: dict[str, Any]) -> None:
        pass

    def evaluate(self, states: Any) -> Scores:
        memory = self._memory
        held_out = [memory.indices(run.train_size, run.seed)[1] for run in self._runs]
        index = np.stack([np.concatenate([memory.tests, mine]) for mine in held_out])
        size = index.shape[1]
        multiple = self._program.batch_multiple
        rows = -(-min(EVALUATION_BATCH, size) // multiple) * multiple
        padded = np.resize(index, (len(index), -(-size // rows) * rows))
        padded[:, :size] = index
        # On this process's own devices, where the logits may be those of all processes.
        logits = np.asarray(self._program.predict_all(states, padded.reshape(len(index), -1, rows)))
        scores = _score(logits[:, :size], memory.labels(index), len(memory.tests))
        return {name: np.asarray(values)[: self._real] for name, values in scores.items()}


def _filled(index: np.ndarray, weight: np.ndarray, multiple: int) -> tuple[np.ndarray, np.ndarray]:
    """Batches filled up to a multiple with examples of weight 0, real ones for BatchNorm's sake."""
    missing = [(0, 0), (0, -index.shape[1] % multiple)]
    return np.pad(index, missing, mode="wrap"), np.pad(weight, missing)


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
        self._losses, self._seeds = _stacked(runs)
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
        scores = _score(logits[None, real], label[None, real], int(real.sum()))
        return {name: np.asarray(values) for name, values in scores.items()}

    def _predictions(self, states: Any) -> Iterator[tuple[np.ndarray, ...]]:
        multiple = self._program.batch_multiple
        rows = -(-EVALUATION_BATCH // multiple) * multiple
        for image, label, _, weight in self._streams.test(rows, *self._share):
            batch = self._program.place((image, label, weight))
            yield tuple(map(np.asarray, self._program.predict(states, batch)))


def _first_broken(values: np.ndarray, step: int) -> np.ndarray:
    broken = np.flatnonzero(~np.isfinite(values))
    return np.array([step + broken[0] if len(broken) else training.NEVER])


@functools.partial(jax.jit, static_argnums=2)
def _score(logits: jax.Array, label: jax.Array, tests: int) -> dict[str, jax.Array]:
    """Scores of `logits [R, N, C]` for `label [R, N]`; the first `tests` are the test's."""
    label = jax.nn.one_hot(label, logits.shape[-1])
    test, held_out = (logits[:, :tests], label[:, :tests]), (logits[:, tests:], label[:, tests:])
    nothing = logits.shape[1] == tests
    return {
        "test_accuracy": jax.vmap(rj.metrics.accuracy)(*test),
        "validation_accuracy": jnp.full(len(logits), jnp.nan)
        if nothing
        else jax.vmap(rj.metrics.accuracy)(*held_out),
        "test_nll": jax.vmap(rj.metrics.negative_log_likelihood)(*test),
        "test_ece": jax.vmap(rj.metrics.expected_calibration_error)(*test),
        "class_accuracy": jax.vmap(_class_accuracy)(*test),
    }


def _class_accuracy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """The accuracy on each class, `[C]`; 0 where the class does not occur."""
    correct = jnp.argmax(logits, -1) == jnp.argmax(label, -1)
    return correct.astype(jnp.float32) @ label / jnp.maximum(label.sum(0), 1)
