"""Trials as runs of the classifier's machinery: trained together, scored by validation images."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

import regjax as rj
from experiments import ConfigError
from experiments.classify import CLASSIFICATION
from experiments.comparison import Work
from experiments.runs import about, groups, step_checks
from experiments.runs.about import About
from experiments.runs.entry_values import runs_at_once
from experiments.runs.journal import Journal
from experiments.runs.plan import Run, plan
from experiments.runs.problem import Problem
from experiments.runs.selection import is_diverged
from experiments.search.spaces import Template
from experiments.search.study import Trial
from experiments.training.interruption import Interruption
from regjax.augment.policy import with_arrays


def objective(text: str) -> rj.Loss:
    """The loss of an expression, of one structure for all policies of as many pairs."""
    return with_arrays(rj.parse(text))


SEARCH = dataclasses.replace(CLASSIFICATION, parse=objective, entries=("search",))
SCORE = f"validation_{SEARCH.score}"


class Trainer:
    """Trains trials in a work folder.

    Attributes:
      at_once: how many trials are trained together.
      steps: how many steps a trial takes.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        method: str,
        template: Template,
        folder: Path,
        interruption: Interruption,
    ) -> None:
        """Looks at everything before work is spent on it.

        Args:
          config: plain, with all entries.
          method: the name of the loss.
          template: what is searched.
          folder: the work folder.
          interruption: looked at while training.

        Raises:
          ConfigError: the config or the folder cannot be used.
        """
        self._config, self._method = config, method
        first = plan({**config, "losses": {method: _example(template)}}, rj.parse)
        if len(config["train_sizes"]) != 1 or config["selection"] != "validation":
            raise ConfigError(
                "A search is of one training size and by held-out training images, but "
                f"config.train_sizes is {config['train_sizes']} and config.selection "
                f"{config['selection']!r}."
            )
        self._size, self._seeds = config["train_sizes"][0], range(config["seeds"])
        journal = Journal(folder, config)
        about.check(folder, About(SEARCH.name, SEARCH.score))
        problem = Problem(config, SEARCH, folder)
        if not problem.source.holds_out:
            raise ConfigError(
                "A search needs images to choose by, which are never those of the test: set "
                "config.validation_per_class, such as 50."
            )
        step_checks.check(problem, first)
        self._work = Work(problem, journal, interruption)
        self._work.describe()
        self.at_once = max(1, runs_at_once(config) // config["seeds"])
        self.steps = problem.steps(self._size) * config["seeds"]

    def values(self, trials: Sequence[Trial], bar: tqdm) -> list[float]:
        """The mean validation score of each trial over the seeds, 0 where a run diverged.

        Args:
          trials: what is trained, unless the journal has it.
          bar: moved on by a step for each run.

        Raises:
          StoppedError: a signal was received; all is saved.
        """
        for alike in self._alike(trials):
            runs = [run for trial in alike for run in self._runs(trial)]
            journal = self._work.journal
            pending = journal.pending(runs)
            most, folder = runs_at_once(self._config), journal.folder / "training"
            begun = groups.begun(folder, pending, most)
            for name, group in groups.groups(self._work.problem, runs, pending, begun):
                self._work.train_group(name, group, bar)
        return [self.score(trial, SCORE) for trial in trials]

    def check(self, done: Sequence[Trial]) -> None:
        """Looks whether the journal has the runs of all trials that are done.

        Raises:
          ConfigError: it has not.
        """
        journal = self._work.journal
        lost = [trial.number for trial in done if journal.pending(self._runs(trial))]
        if lost:
            raise ConfigError(
                f"{journal.folder}/search.db holds trials, number {lost[0]} among them, whose runs "
                "are not in runs.jsonl beside it: put that file back, or delete search.db too, and "
                "the search begins anew."
            )

    def score(self, trial: Trial, name: str) -> float:
        """The mean of a trained trial's score over the seeds; 0 where a run diverged."""
        records = self._work.journal.of(self._runs(trial))
        if any(is_diverged(record, SEARCH.score) for record in records):
            return 0.0
        return statistics.fmean(record[name] for record in records)

    def _alike(self, trials: Sequence[Trial]) -> Iterator[list[Trial]]:
        """Trials that one compiled program trains."""
        parts: dict[Any, list[Trial]] = {}
        for trial in trials:
            parts.setdefault(jax.tree.structure(objective(trial.expression)), []).append(trial)
        yield from parts.values()

    def _runs(self, trial: Trial) -> list[Run]:
        # Its number stands where a comparison has a strength.
        of = (self._method, trial.expression, self._size, float(trial.number))
        return [Run(*of, seed) for seed in self._seeds]


def _example(template: Template) -> str:
    """The loss of the first parameters that each space has."""
    first = {}
    for name, space in template.distributions().items():
        low = getattr(space, "low", None)
        first[name] = getattr(space, "choices", (low,))[0]
    return template.expression(first)
