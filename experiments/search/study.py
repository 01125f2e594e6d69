"""The search itself: what is tried next, kept in a file so that no trial is lost.

optuna proposes: by a tree-structured Parzen estimator over all parameters together, see "Algorithms
for Hyper-Parameter Optimization" (Bergstra et al., 2011), or at random, as a control.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import TrialState

from experiments import ConfigError
from experiments.search.spaces import Template

SAMPLERS = ("tpe", "random")


class Trial(NamedTuple):
    """A trial.

    Attributes:
      number: the place in the search.
      expression: the loss.
      value: the score; None before it is known.
    """

    number: int
    expression: str
    value: float | None = None


class Study:
    """The trials of a search, those of earlier processes among them."""

    def __init__(
        self, template: Template, *, sampler: str = "tpe", seed: int = 0, path: Path | None = None
    ) -> None:
        """Opens the file, or begins it.

        Args:
          template: what is searched.
          sampler: one of `SAMPLERS`.
          seed: of the proposals.
          path: of an SQLite file; None keeps the trials in memory.

        Raises:
          ConfigError: the file holds another search, or is damaged.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._template, self._sampler, self._seed = template, sampler, seed
        self._study = optuna.create_study(
            storage=_storage(path) if path else None,
            study_name="search",
            direction="maximize",
            load_if_exists=True,
        )
        self._check(
            {
                "loss": template.loss,
                "spaces": {name: repr(space) for name, space in template.spaces.items()},
                "sampler": sampler,
                "seed": seed,
            }
        )
        self._repair()

    def _check(self, of: dict[str, Any]) -> None:
        before = self._study.user_attrs.get("of", of)
        changed = [name for name in of if before[name] != of[name]]
        if changed:
            raise ConfigError(
                f"The work folder holds a search of another {changed[0]} "
                f"({before[changed[0]]}, now {of[changed[0]]}): choose another --workdir, or the "
                "config as it was."
            )
        self._study.set_user_attr("of", of)

    def _repair(self) -> None:
        """Gives up trials that were being asked for, and sees that the start is tried."""
        every = self._template.distributions()
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            if trial.params.keys() != every.keys():
                self._study.tell(trial.number, state=TrialState.FAIL)
        start = self._template.start()
        # Nothing else ever waits.
        begins = any(
            trial.state == TrialState.WAITING
            or (trial.state != TrialState.FAIL and trial.params == start)
            for trial in self._study.trials
        )
        if start is not None and not begins:
            self._study.enqueue_trial(start)

    def left(self) -> list[Trial]:
        """The trials that have been asked for and not told yet."""
        running = self._study.get_trials(states=(TrialState.RUNNING,))
        return [Trial(t.number, self._template.expression(t.params)) for t in running]

    def done(self) -> list[Trial]:
        """The trials that have been told, in the order of their numbers."""
        complete = self._study.get_trials(states=(TrialState.COMPLETE,))
        return [Trial(t.number, self._template.expression(t.params), t.value) for t in complete]

    def ask(self, count: int) -> list[Trial]:
        """So many trials more."""
        # Anew each time, by how far the search is, so that one that was killed goes on as it would.
        self._study.sampler = self._new_sampler(len(self._study.trials))
        every = self._template.distributions()
        asked = [self._study.ask(fixed_distributions=every) for _ in range(count)]
        return [Trial(t.number, self._template.expression(t.params)) for t in asked]

    def _new_sampler(self, place: int) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self._seed, place]).generate_state(1)[0])
        if self._sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def tell(self, trial: Trial, value: float) -> None:
        """The score of a trial, of which the largest is the best."""
        self._study.tell(trial.number, value)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    opened = functools.partial(sqlite3.connect, path, check_same_thread=False)
    try:
        with contextlib.closing(opened()) as file:
            file.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise ConfigError(
            f"{path} cannot be used ({error}): delete it, and the search begins anew, or choose "
            "another --workdir."
        ) from None
    # A URL of the path itself would be another one where that has "?" or "%"; without a pool no
    # connection is left open.
    engine = {"creator": opened, "poolclass": sqlalchemy.NullPool}
    return optuna.storages.RDBStorage("sqlite:///search.db", engine_kwargs=engine)


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Work on a search: where its file cannot be written, or another one, a sentence says so.

    Raises:
      OSError: a file cannot be written; nothing is lost.
    """
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = error.__cause__
        reason = getattr(cause, "orig", None) or cause or error
        raise OSError(
            f"The search cannot be written to {folder} ({reason}): make room there, and the same "
            "command goes on."
        ) from None


def run(
    study: Study,
    objective: Callable[[Sequence[Trial]], Sequence[float]],
    trials: int,
    at_once: int,
    seen: Callable[[Sequence[Trial]], None] = lambda done: None,
) -> list[Trial]:
    """Tries until so many trials are done.

    Args:
      study: the trials so far; those that were begun come first.
      objective: the function from trials to their scores.
      trials: how many there are in all.
      at_once: how many are asked for at once.
      seen: called with all that are done, whenever there are new ones.

    Returns:
      All that are done, in the order of their numbers.
    """
    while True:
        done = study.done()
        some = study.left()[:at_once] or study.ask(min(at_once, max(0, trials - len(done))))
        if not some:
            return done
        for trial, value in zip(some, objective(some), strict=True):
            study.tell(trial, value)
        seen(study.done())


def best(done: Sequence[Trial]) -> Trial:
    """The trial of the largest score, of equals the first."""
    return max(done, key=lambda trial: trial.value or 0.0)
