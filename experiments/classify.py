"""Trains classifiers under many losses and compares them in a table and two plots.

    python -m experiments.classify --config=configs/digits.py --workdir=runs/digits

Every combination of the config's losses, training sizes, strengths and seeds is trained once;
`--config.NAME=VALUE` changes an entry. The work folder gets `config.json`, `runs.jsonl` (a line for
each finished run), `results.json`, `table.md` and the plots. Started again with the same folder, a
comparison goes on where it stopped: an interruption loses only the runs that were being trained
together, at most `config.runs_at_once`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

import regjax as rj
import regjax.flax
from experiments import commands, devices, models, report, training
from experiments.comparison import ConfigError, Journal, Run, plan
from experiments.data import sources, subsets
from experiments.data.preprocessing import normalise
from experiments.sweep import Sweep, stack

CONFIG = config_flags.DEFINE_config_file("config", None, "What to compare.")
WORKDIR = flags.DEFINE_string("workdir", "runs/classify", "Folder for the results.")

# So many steps are one call of the device: the progress bar moves, and calls cost nothing.
STEPS_PER_CALL = 20
EVALUATION_BATCH = 250


class Comparison:
    """The data set and the compiled programs of a config."""

    def __init__(self, config: ConfigDict) -> None:
        """Reads the data set and builds the network once, which finds most mistakes."""
        self.config = config
        dataset = sources.load(config.dataset, config.data_dir or None)
        self.train_label, self.test_label = dataset.train.label, dataset.test.label
        both = zip(dataset.train, dataset.test, strict=True)
        self.data = training.Data(*(jnp.asarray(np.concatenate(pair)) for pair in both))
        shape = dataset.train.image.shape[1:]
        task = training.Task(
            build=lambda key: regjax.flax.bind(
                models.create(config.model, shape, dataset.classes, nnx.Rngs(key)), head="head"
            ),
            optimizer=training.optimizer(config.optimizer, config.learning_rate),
            prepare=functools.partial(normalise, mean=config.mean or None, std=config.std or None),
            classes=dataset.classes,
        )
        self.sweep = Sweep(task, self.data, config.strategy or None)

    def check(self, runs: Iterable[Run]) -> None:
        """Draws every subset and traces a step of every loss, before any work is spent on them."""
        for size, seed in {(run.train_size, run.seed) for run in runs}:
            self._indices(size, seed)
        for text in {run.method: run.loss for run in runs}.values():
            self.sweep.check(rj.parse(text), self.config.batch_size)

    def _indices(self, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation examples of a seed: the same for every method."""
        held_out = self.config.validation_per_class
        return subsets.split_indices(self.train_label, size, held_out, seed)

    def _steps(self, run: Run) -> tuple[np.ndarray, np.ndarray]:
        """All batches of a run: index and weight, `[steps, batch]`."""
        indices = self._indices(run.train_size, run.seed)[0]
        epochs = (
            subsets.epoch_batches(indices, self.config.batch_size, epoch, run.seed)
            for epoch in range(self.config.epochs)
        )
        index, weight = (np.concatenate(part) for part in zip(*epochs, strict=True))
        return index, weight

    def steps(self, run: Run) -> int:
        """How many steps a run takes."""
        examples = run.train_size * (int(self.train_label.max()) + 1)
        return self.config.epochs * -(-examples // self.config.batch_size)

    def train(self, runs: Sequence[Run], bar: tqdm) -> list[dict[str, Any]]:
        """Trains runs of one method and size together and returns their records."""
        padded = [*runs, *[runs[-1]] * (-len(runs) % self.sweep.multiple)]
        losses = stack([rj.parse(run.loss) for run in padded])
        seeds = jnp.asarray([run.seed for run in padded], jnp.uint32)
        batches = {run.seed: self._steps(run) for run in padded}
        index, weight = (np.stack([batches[run.seed][part] for run in padded]) for part in (0, 1))
        states, steps = self.sweep.init(losses, seeds), index.shape[1]
        for start in range(0, steps, STEPS_PER_CALL):
            chunk = slice(start, start + STEPS_PER_CALL)
            count = min(STEPS_PER_CALL, steps - start)
            states, metrics = self.sweep.advance(
                states, losses, seeds, _fill(index[:, chunk]), _fill(weight[:, chunk]), count
            )
            jax.block_until_ready(metrics)
            bar.update(count * len(runs))
        scores = self._evaluate(states, padded)
        scores["train_loss"] = np.asarray(metrics["total"])
        rest = {"steps": steps, "versions": devices.environment()["versions"]}
        if not self.config.validation_per_class:
            rest["validation_accuracy"] = None
        return [
            dataclasses.asdict(run)
            | {name: float(values[i]) for name, values in scores.items()}
            | rest
            for i, run in enumerate(runs)
        ]

    def _evaluate(self, states: training.TrainState, runs: Sequence[Run]) -> dict[str, np.ndarray]:
        """Scores of every run, each `[R]`; every example is scored exactly once."""
        tests = len(self.train_label) + np.arange(len(self.test_label))
        held_out = [self._indices(run.train_size, run.seed)[1] for run in runs]
        index = np.stack([np.concatenate([tests, mine]) for mine in held_out])
        size = index.shape[1]
        batches = -(-size // EVALUATION_BATCH)
        padded = np.resize(index, (len(runs), batches * EVALUATION_BATCH))
        padded[:, :size] = index
        logits = self.sweep.predict(states, padded.reshape(len(runs), batches, EVALUATION_BATCH))
        scores = _score(logits[:, :size], self.data.label[index], len(tests))
        return {name: np.asarray(values) for name, values in scores.items()}


@functools.partial(jax.jit, static_argnums=2)
def _score(logits: jax.Array, label: jax.Array, tests: int) -> dict[str, jax.Array]:
    label = jax.nn.one_hot(label, logits.shape[-1])
    test, held_out = (logits[:, :tests], label[:, :tests]), (logits[:, tests:], label[:, tests:])
    return {
        "test_accuracy": jax.vmap(rj.metrics.accuracy)(*test),
        "validation_accuracy": jax.vmap(rj.metrics.accuracy)(*held_out),
        "test_nll": jax.vmap(rj.metrics.negative_log_likelihood)(*test),
        "test_ece": jax.vmap(rj.metrics.expected_calibration_error)(*test),
    }


def _fill(array: np.ndarray) -> np.ndarray:
    """Fills the second axis up to the length that the compiled program expects."""
    missing = STEPS_PER_CALL - array.shape[1]
    return np.pad(array, [(0, 0), (0, missing), (0, 0)])


def compare(config: ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Path]:
    """Trains what has not been trained yet, and writes the report.

    Args:
      config: with the entries of configs/digits.py.
      workdir: folder of the results, made if missing.

    Returns:
      The paths of the report's files by name, see `report.write`.

    Raises:
      ConfigError: the config or the folder cannot be used; raised before anything is trained.
      OSError: the data set is missing; says how to prepare it.
      ValueError: the data set is damaged or too small.
    """
    if jax.process_count() > 1:
        raise ConfigError("A comparison runs in one process only, so far: start it on one host.")
    plain = config.to_dict()
    runs = plan(plain)
    journal = Journal(workdir, plain)
    pending = journal.pending(runs)
    if pending:
        comparison = Comparison(config)
        comparison.check(pending)
        _train(comparison, pending, journal)
    return report.write(workdir, journal.of(runs), plain, devices.environment())


def _train(comparison: Comparison, runs: Sequence[Run], journal: Journal) -> None:
    total = sum(comparison.steps(run) for run in runs)
    with tqdm(total=total, unit="step", smoothing=0.05, dynamic_ncols=True) as bar:
        groups = itertools.groupby(runs, lambda run: (run.method, run.train_size))
        for (method, size), group in groups:
            bar.set_description(f"{method}, {size} per class")
            for part in _evenly(list(group), comparison.config.runs_at_once):
                journal.append(comparison.train(part, bar))


def _evenly(runs: list[Run], most: int) -> list[list[Run]]:
    """Parts of at most `most` runs, as equal as can be: each size is one compilation."""
    parts = -(-len(runs) // most)
    bounds = [round(i * len(runs) / parts) for i in range(parts + 1)]
    return [runs[a:b] for a, b in itertools.pairwise(bounds)]


def main() -> None:
    """Runs the comparison of the flags; bad input ends it with one sentence and exit code 2."""
    logging.getLogger("jax").setLevel(logging.WARNING)  # not every backend that is missing
    try:
        paths = compare(CONFIG.value, WORKDIR.value)
    except (ConfigError, OSError, ValueError, TypeError) as error:
        commands.stop(error)
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on where this stopped.", file=sys.stderr)
        sys.exit(130)
    print(paths["table"].read_text(encoding="utf-8"))
    print("Written to " + ", ".join(str(path) for path in paths.values()))


if __name__ == "__main__":
    commands.run(main)
