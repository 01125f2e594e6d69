"""The host's side of training: calls the device, keeps the record and the checkpoints, stops.

A group of runs is trained in calls of some steps each. Where a call ends depends on the settings
alone, so that a run which was interrupted and goes on takes the same calls, and ends the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from tqdm import tqdm

from experiments import ConfigError
from experiments.evaluation.perturbed import Perturbation
from experiments.runs.plan import Run
from experiments.runs.selection import amount
from experiments.training import devices
from experiments.training.checkpoints import Checkpoints
from experiments.training.interruption import Interruption, StoppedError
from experiments.training.record import Record
from experiments.training.step import NEVER

# So many steps are at most one call of the device and one line of the record.
STEPS_PER_CALL = 20

Scores = dict[str, np.ndarray]


class Feed(Protocol):
    """The examples of a group of runs, and the steps on them."""

    def start(self) -> Any:
        """The states before the first step."""

    def advance(self, states: Any, step: int, count: int) -> tuple[Any, Any, Any]:
        """Takes `count` steps from a step on: the states, and `train_steps`'s two dicts, `[R]`."""

    def state(self) -> dict[str, Any]:
        """Where it is, as JSON."""

    def restore(self, state: dict[str, Any]) -> None:
        """Goes where it was."""

    def close(self) -> None:
        """Ends what reads."""

    def evaluate(self, states: Any) -> Scores:
        """The scores of every run, each `[R]` or `[R, C]`."""

    def perturbed(self, states: Any, perturbation: Perturbation) -> Scores:
        """The scores of every run on perturbed test images, each `[R, L]`, one for each level."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that are trained together, and how.

    Attributes:
      runs: one or more.
      feed: their examples.
      steps: of each run.
      steps_per_epoch: not whole where batches run on across epochs.
      examples: in a batch, over all runs.
      rate: the learning rate at a step.
      belongs_to: what a checkpoint must have been made with.
    """

    runs: Sequence[Run]
    feed: Feed
    steps: int
    steps_per_epoch: float
    examples: int
    rate: Callable[[int], Any]
    belongs_to: dict[str, Any]

    @property
    def name(self) -> str:
        """What they are called in messages."""
        return f"{self.runs[0].method}, {amount(self.runs[0].train_size)}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """When something happens besides the steps.

    Attributes:
      evaluate_epochs: epochs between evaluations; 0 for only one, at the end.
      checkpoint_steps: steps between checkpoints; what is evaluated, and the end, are saved too. 0
        for no others.
      keep_checkpoints: how many of the last are kept, besides the best.
      selection: "validation" or "test", by whose accuracy the best is found.
      profile: whether to trace a few steps.
    """

    evaluate_epochs: float
    checkpoint_steps: int
    keep_checkpoints: int
    selection: str
    profile: bool = False


@dataclasses.dataclass
class Progress:
    """What a group has come to, besides its states; rides in the checkpoints.

    Attributes:
      total: of each run, the mean of what was minimised over the last call.
      broken: of each run, None or "step 12: isda", the first number that was not finite.
    """

    total: list[float | None]
    broken: list[str | None]

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


class Training:
    """The training of one group, in a folder of its own."""

    def __init__(
        self,
        group: Group,
        folder: Path,
        settings: Settings,
        interruption: Interruption,
        bar: tqdm,
    ) -> None:
        """Nothing is done before `run`.

        Args:
          group: what to train.
          folder: of its record and checkpoints.
          settings: what else happens, and when.
          interruption: looked at after each call.
          bar: moved on by a step for each run.
        """
        self._group, self._folder, self._settings = group, folder, settings
        self._interruption, self._bar = interruption, bar
        runs, epochs = len(group.runs), settings.evaluate_epochs
        every = epochs * group.steps_per_epoch
        times = int(group.steps / every) if every else 0
        self._evaluations = {max(round(i * every), 1) for i in range(1, times + 1)} | {group.steps}
        self._step, self._progress = 0, Progress([None] * runs, [None] * runs)
        self._profile = settings.profile

    def run(self) -> tuple[Scores, Progress]:
        """Trains to the end, from the newest checkpoint on if there is one.

        Returns:
          The scores of the trained runs, and what they came to. The group stops when all of its
          runs have a number that is not finite; what was saved before stays.

        Raises:
          StoppedError: a signal was received; everything is saved.
          ConfigError: there are checkpoints, but of another config.
          OSError: the folder cannot be written.
        """
        group, keep = self._group, self._settings.keep_checkpoints
        states, scores = group.feed.start(), None
        where = self._folder / "checkpoints"
        with (
            contextlib.closing(group.feed),
            Checkpoints(where, keep=keep, belongs_to=group.belongs_to) as checkpoints,
        ):
            states = self._restored(checkpoints, states)
            if self._stop():
                raise StoppedError(self._interruption.received, self._step)
            with self._monitor() as monitor:
                first = self._step
                while self._step < group.steps and not all(self._progress.broken):
                    states = self._call(states, monitor, first)
                    if all(self._progress.broken):
                        scores = None  # those of an earlier step
                        break
                    scores = self._evaluate(states, monitor)
                    self._save(checkpoints, states, scores, monitor)
        self._bar.update((group.steps - self._step) * len(group.runs))
        return scores or group.feed.evaluate(states), self._progress

    def trained(self) -> Any:
        """The states at the end of the training, out of their checkpoint.

        Raises:
          ConfigError: there is none, or it is of another config.
        """
        where = self._folder / "checkpoints"
        keep, belongs_to = self._settings.keep_checkpoints, self._group.belongs_to
        with Checkpoints(where, keep=keep, belongs_to=belongs_to) as checkpoints:
            restored = checkpoints.restore(self._group.feed.start())
        if restored is None or restored.step != self._group.steps:
            raise ConfigError(
                f"{where} has no whole checkpoint of the end of the training, which the "
                f"perturbations need: delete the lines of group {self._folder.name!r} in "
                "runs.jsonl, and it is trained again."
            )
        return restored.state

    def _restored(self, checkpoints: Checkpoints, states: Any) -> Any:
        restored = checkpoints.restore(states)
        if restored is None:
            return states
        self._step = restored.step
        self._progress = Progress(**restored.data["progress"])
        self._group.feed.restore(restored.data["feed"])
        self._bar.update(self._step * len(self._group.runs))
        return restored.state

    def _monitor(self) -> contextlib.AbstractContextManager[Record | None]:
        if devices.is_first():
            labels = [dataclasses.asdict(run) for run in self._group.runs]
            for label in labels:
                del label["loss"]
            return Record(self._folder, labels, self._step)
        return contextlib.nullcontext()

    def _call(self, states: Any, monitor: Record | None, first: int) -> Any:
        """The steps up to the next one at which something else is due."""
        group, start, count = self._group, self._step, self._next() - self._step
        profiled = self._profile and start > first  # the first call compiles
        self._profile &= not profiled
        with self._traced() if profiled else contextlib.nullcontext():
            began = time.perf_counter()
            states, means, broken = group.feed.advance(states, start, count)
            means, broken = jax.tree.map(np.asarray, (means, broken))
            seconds = time.perf_counter() - began
        self._step += count
        self._bar.update(count * len(group.runs))
        self._bar.set_postfix(loss=f"{np.mean(means['total']):.3g}", refresh=False)
        speed = None if start == first else group.examples * count / seconds
        rates = {"learning_rate": group.rate(self._step - 1), "images_per_second": speed}
        self._record(monitor, "train", means | rates)
        for run in self._progress.note(means["total"], broken):
            self._say(self._broken(run))
        return states

    def _broken(self, run: int) -> str:
        step, term = str(self._progress.broken[run]).split(": ")
        strength = self._group.runs[run].strength
        at = "" if strength is None else f" at {strength:g}"
        return (
            f"{self._group.name}{at}, seed {self._group.runs[run].seed}: {term} is not finite from "
            f"{step} on; the run counts as diverged."
        )

    def _next(self) -> int:
        """Where the next call ends."""
        every = (STEPS_PER_CALL, self._settings.checkpoint_steps or self._group.steps)
        regular = [(self._step // n + 1) * n for n in every]
        return min(*regular, *(step for step in self._evaluations if step > self._step))

    def _evaluate(self, states: Any, monitor: Record | None) -> Scores | None:
        if self._step not in self._evaluations:
            return None
        scores = self._group.feed.evaluate(states)
        self._record(monitor, "evaluation", {n: s for n, s in scores.items() if s.ndim == 1})
        return scores

    def _record(self, monitor: Record | None, kind: str, values: dict[str, Any]) -> None:
        if monitor is not None:
            monitor.record(kind, self._step, self._step / self._group.steps_per_epoch, values)

    def _save(
        self, checkpoints: Checkpoints, states: Any, scores: Scores | None, monitor: Record | None
    ) -> None:
        every, stop = self._settings.checkpoint_steps, self._stop()
        regular = self._step == self._group.steps or (every and self._step % every == 0)
        # What was scored is saved, for it may be the best.
        if not (stop or regular or scores):
            return
        if monitor is not None:
            monitor.sync()  # the record is never behind the checkpoints
        data = {"progress": dataclasses.asdict(self._progress), "feed": self._group.feed.state()}
        best = None if scores is None else _mean(scores[f"{self._settings.selection}_accuracy"])
        checkpoints.save(self._step, states, data, score=best)
        if stop and self._step < self._group.steps:
            checkpoints.wait()
            raise StoppedError(self._interruption.received, self._step)

    def _stop(self) -> bool:
        return devices.any_process(bool(self._interruption.received))

    @contextlib.contextmanager
    def _traced(self) -> Iterator[None]:
        folder = self._folder / "profile"
        with jax.profiler.trace(str(folder)):
            yield
        self._say(f"A trace of some steps is in {folder}: open it with TensorBoard or Perfetto.")

    def _say(self, text: str) -> None:
        if devices.is_first():
            self._bar.write(text, file=sys.stderr)


def _mean(accuracies: np.ndarray) -> float | None:
    mean = float(np.mean(accuracies))
    return mean if math.isfinite(mean) else None
