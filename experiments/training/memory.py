"""Examples that are whole in device memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.data import sources, subsets
from experiments.evaluation import classification as scores
from experiments.evaluation.perturbed import Perturbation
from experiments.runs.plan import Run, stacked
from experiments.training import step as training
from experiments.training.loop import STEPS_PER_CALL, Feed, Scores
from experiments.training.sweep import Sweep


class Memory:
    """A data set that is whole in device memory; images are held out class by class.

    Attributes:
      data: training and test images, one after the other.
      classes: C.
      shape: of an image.
    """

    def __init__(
        self, dataset: sources.Dataset, held_out: int, data_dir: str | None = None
    ) -> None:
        """Takes over a data set, of which `held_out` training images a class are not trained on."""
        self._data_dir = data_dir
        both = {k: np.concatenate([dataset.train[k], dataset.test[k]]) for k in dataset.train}
        self.data: Any = training.Data(**both)  # type: ignore[arg-type]
        self._label = np.asarray(self.data.label)
        self.classes, self.shape = dataset.classes, dataset.train["image"].shape[1:]
        self._train, self._held_out = dataset.train["label"], held_out
        self.tests = len(self._train) + np.arange(len(dataset.test["label"]), dtype=np.int32)

    def indices(self, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation examples, for a training size per class, 0 for all."""
        train, held_out = subsets.split_indices(self._train, size, self._held_out, seed)
        if size == 0:
            train = np.setdiff1d(np.arange(len(self._train), dtype=np.int32), held_out)
        return train, held_out

    def check(self, perturbation: Perturbation) -> None:
        """Looks whether the data sets are there that a perturbation reads, and whether they fit.

        Raises:
          OSError: one is missing; says how to prepare it.
          ValueError: one is damaged, or of other images or classes.
        """
        if perturbation.kind != "stored_corruption":
            return
        for level in perturbation.levels:
            name = _stored_name(perturbation.about, int(level))
            shape, classes, _ = sources.describe_test(name, self._data_dir)
            if (shape, classes) != (self.shape, self.classes):
                raise sources.DataError(
                    f"{name} has images {list(shape)} of {classes} classes, but the networks are "
                    f"for {list(self.shape)} of {self.classes}."
                )

    def stored(self, name: str, severity: int) -> training.Data:
        """The test images of TFDS's "cifar10_corrupted" for a corruption and a severity."""
        split = sources.load_test(_stored_name(name, severity), self._data_dir)
        return training.Data(**split)  # type: ignore[arg-type]

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
        self._losses, self._seeds = stacked(self._runs)
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
        # On this process's own devices, where the logits may be those of all processes.
        logits = np.asarray(self._program.predict_all(states, self._rows(index)))
        logits = logits[:, : index.shape[1]]
        return self._of_real(scores.of_runs(logits, memory.labels(index), len(memory.tests)))

    def perturbed(self, states: Any, perturbation: Perturbation) -> Scores:
        memory = self._memory
        if perturbation.kind == "stored_corruption":
            return self._stored(states, perturbation)
        index = _spaced(memory.tests, perturbation.examples)
        logits = self._logits(states, perturbation, index, None)
        return self._of_real(scores.at_levels(logits, memory.labels(index)))

    def _logits(
        self,
        states: Any,
        perturbation: Perturbation,
        index: np.ndarray,
        data: training.Data | None,
    ) -> np.ndarray:
        rows = self._rows(np.stack([index] * len(self._runs)))
        logits = self._program.perturbed_all(states, perturbation, rows, data)
        return np.asarray(logits)[:, :, : len(index)]

    def _stored(self, states: Any, perturbation: Perturbation) -> Scores:
        """Each level is a data set of its own."""
        each: list[Scores] = []
        for level in perturbation.levels:
            data = self._memory.stored(perturbation.about, int(level))
            index = _spaced(np.arange(len(data.label), dtype=np.int32), perturbation.examples)
            one = dataclasses.replace(perturbation, levels=(1.0,))
            logits = self._logits(states, one, index, data)
            each.append(scores.at_levels(logits, np.asarray(data.label)[index]))
        joined = {name: np.concatenate([s[name] for s in each], -1) for name in each[0]}
        return self._of_real(joined)

    def _rows(self, index: np.ndarray) -> np.ndarray:
        """`index [R, N]` in batches `[R, K, B]` of one size, the last filled up."""
        size, multiple = index.shape[1], self._program.batch_multiple
        rows = -(-min(scores.BATCH, size) // multiple) * multiple
        padded = np.resize(index, (len(index), -(-size // rows) * rows))
        padded[:, :size] = index
        return padded.reshape(len(index), -1, rows)

    def _of_real(self, found: Mapping[str, Any]) -> Scores:
        return {name: np.asarray(values)[: self._real] for name, values in found.items()}


def _stored_name(name: str, severity: int) -> str:
    return f"cifar10_corrupted/{sources.STORED.get(name, name)}_{severity}"


def _spaced(index: np.ndarray, count: int) -> np.ndarray:
    """So many of the indices, evenly spaced; all of them for 0, or where there are no more."""
    if not 0 < count < len(index):
        return index
    return index[np.arange(count) * len(index) // count]


def _filled(index: np.ndarray, weight: np.ndarray, multiple: int) -> tuple[np.ndarray, np.ndarray]:
    """Batches filled up to a multiple with examples of weight 0, real ones for BatchNorm's sake."""
    missing = [(0, 0), (0, -index.shape[1] % multiple)]
    return np.pad(index, missing, mode="wrap"), np.pad(weight, missing)
