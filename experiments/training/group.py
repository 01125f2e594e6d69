"""Runs that are trained together, what else happens in their training, and what becomes of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.training.feeds import Feed, Measured
from experiments.training.steps import NEVER
from experiments.training.task import Evaluation

Scores = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that are trained together, and how.

    Attributes:
      name: the name of the runs in messages.
      labels: the labels that are recorded of each, its method, size, strength and seed.
      feed: their examples.
      evaluation: the evaluation that scores them.
      score: the name of the main one of its scores.
      steps: the number of steps of each run.
      steps_per_epoch: the number of steps in an epoch, not whole where batches run across.
      examples: the number of examples in a batch, over all runs.
      rate: the learning rate at a step.
      belongs_to: the entries that a checkpoint must have been made with.
      measured: the number of examples that one evaluation of a run looks at; 0 where it is unknown.
    """

    name: str
    labels: Sequence[Mapping[str, Any]]
    feed: Feed
    evaluation: Evaluation
    score: str
    steps: int
    steps_per_epoch: float
    examples: int
    rate: Callable[[int], Any]
    belongs_to: dict[str, Any]
    measured: int = 0

    def scores(self, states: Any) -> list[Scores]:
        """Each run's scores, `test_...` and `validation_...`; None where nothing was held out."""
        test = self._scored(self.feed.measure(states, self.evaluation))
        held_out = self.feed.measure_held_out(states, self.evaluation)
        rest = [{self.score: None}] * len(test) if held_out is None else self._scored(held_out)
        return [
            {f"test_{name}": value for name, value in mine.items()}
            | {f"validation_{name}": value for name, value in theirs.items()}
            for mine, theirs in zip(test, rest, strict=True)
        ]

    def _scored(self, measured: Measured) -> list[Scores]:
        each = range(len(self.labels))
        return [self.evaluation.scores({n: x[run] for n, x in measured.items()}) for run in each]


@dataclasses.dataclass(frozen=True)
class Settings:
    """When something happens besides the steps.

    Attributes:
      evaluate_epochs: the epochs between evaluations; 0 for one at the end, and for the curves
        some more before it that cost little and are only recorded.
      checkpoint_steps: the steps between checkpoints; what is evaluated, and the end, are saved
        too. 0 for no others.
      keep_checkpoints: the number of last checkpoints that are kept, besides the best.
      selection: the split by whose main score the best is found, "validation" or "test".
      score_epochs: the number of last epochs over which each score is averaged.
      profile: whether to trace a few steps.
    """

    evaluate_epochs: float
    checkpoint_steps: int
    keep_checkpoints: int
    selection: str
    score_epochs: int = 1
    profile: bool = False


@dataclasses.dataclass
class Progress:
    """What a group has come to, besides its states; rides in the checkpoints.

    Attributes:
      total: the mean, for each run, of what was minimised over the last call.
      broken: the first number of each run that was not finite, as "step 12: isda", or None.
      scored: the number of evaluations whose scores were added up.
      sums: of each run these sums.
    """

    total: list[float | None]
    broken: list[str | None]
    scored: int = 0
    sums: list[Scores] = dataclasses.field(default_factory=list)

    def score(self, scores: Sequence[Scores]) -> None:
        """Adds up an evaluation's scores."""
        given = list(scores)
        self.sums = _sum(self.sums, given) if self.scored else given
        self.scored += 1

    def means(self) -> list[Scores]:
        """Each run's scores, averaged over the evaluations that were added up."""
        means: list[Scores] = _divided(self.sums, self.scored)
        return means

    def note(self, total: Iterable[Any], broken: dict[str, np.ndarray]) -> list[int]:
        """Takes in a call's numbers; returns the runs that broke in it."""
        self.total = [float(t) if math.isfinite(t) else None for t in total]
        new = []
        for run, said in enumerate(self.broken):
            first = min(int(steps[run]) for steps in broken.values())
            if said is None and first < NEVER:
                names = [name for name, steps in broken.items() if steps[run] == first]
                # Where a term is broken so are these two: the term says more.
                named = min(names, key=lambda name: (name == "gradient_norm", name == "total"))
                self.broken[run] = f"step {first + 1}: {named}"  # as the record counts
                new.append(run)
        return new


def _sum(one: Any, other: Any) -> Any:
    """Score by score; None, which is of nothing, stays so."""
    if isinstance(one, dict):
        return {name: _sum(value, other[name]) for name, value in one.items()}
    if isinstance(one, list):
        return [_sum(a, b) for a, b in zip(one, other, strict=True)]
    return None if one is None or other is None else one + other


def _divided(total: Any, count: int) -> Any:
    if isinstance(total, dict):
        return {name: _divided(value, count) for name, value in total.items()}
    if isinstance(total, list):
        return [_divided(each, count) for each in total]
    whole = isinstance(total, int) and total % count == 0  # such as the images of a class
    return total if total is None else total // count if whole else total / count
