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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments import ConfigError
from experiments.training import devices
from experiments.training.checkpoints import Checkpoints
from experiments.training.feeds import STEPS_PER_CALL
from experiments.training.group import Group, Progress, Scores, Settings
from experiments.training.interruption import Interruption, StoppedError
from experiments.training.record import Record

# Where nobody says when to evaluate: at most so often before the end, for so much of the training's
# own cost, which for each example is so many times an evaluation's.
MOST_LOOKS, LOOKS_SHARE, PASSES = 9, 0.2, 3


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
        runs, epochs = len(group.labels), settings.evaluate_epochs
        every = epochs * group.steps_per_epoch
        times = int(group.steps / every) if every else 0
        self._evaluations = {max(round(i * every), 1) for i in range(1, times + 1)} | {group.steps}
        self._looks = set() if every else _looks(group)
        self._averaged = _averaged(group, settings.score_epochs)
        self._step, self._progress = 0, Progress([None] * runs, [None] * runs)
        self._profile = settings.profile

    def run(self) -> tuple[list[Scores], Progress]:
        """Trains to the end, from the newest checkpoint on if there is one.

        Returns:
          The scores of the trained runs, averaged over the last epochs where the settings say so,
          and what they came to. The group stops when all of its runs have a number that is not
          finite; what was saved before stays.

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
            with self._opened() as record:
                first = self._step
                while self._step < group.steps and not all(self._progress.broken):
                    states = self._call(states, record, first)
                    if all(self._progress.broken):
                        scores = None  # those of an earlier step
                        break
                    scores = self._evaluate(states, record)
                    self._save(checkpoints, states, scores, record)
        self._bar.update((group.steps - self._step) * len(group.labels))
        if self._averaged and not all(self._progress.broken):
            scores = self._progress.means()
        return scores or group.scores(states), self._progress

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
        self._bar.update(self._step * len(self._group.labels))
        return restored.state

    def _opened(self) -> contextlib.AbstractContextManager[Record | None]:
        if devices.is_first():
            return Record(self._folder, self._group.labels, self._step)
        return contextlib.nullcontext()

    def _call(self, states: Any, record: Record | None, first: int) -> Any:
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
        self._bar.update(count * len(group.labels))
        self._bar.set_postfix(loss=f"{np.mean(means['total']):.3g}", refresh=False)
        speed = None if start == first else group.examples * count / seconds
        rates = {"learning_rate": group.rate(self._step - 1), "images_per_second": speed}
        self._write(record, "train", means | rates)
        for run in self._progress.note(means["total"], broken):
            self._say(self._broken(run))
        return states

    def _broken(self, run: int) -> str:
        step, term = str(self._progress.broken[run]).split(": ")
        label = self._group.labels[run]
        at = "" if label["strength"] is None else f" at {label['strength']:g}"
        return (
            f"{self._group.name}{at}, seed {label['seed']}: {term} is not finite from "
            f"{step} on; the run counts as diverged."
        )

    def _next(self) -> int:
        """Where the next call ends."""
        every = (STEPS_PER_CALL, self._settings.checkpoint_steps or self._group.steps)
        regular = [(self._step // n + 1) * n for n in every]
        due = self._evaluations | self._averaged
        return min(*regular, *(step for step in due if step > self._step))

    def _evaluate(self, states: Any, record: Record | None) -> list[Scores] | None:
        if self._step not in self._evaluations | self._looks | self._averaged:
            return None
        scores = self._group.scores(states)
        if self._step in self._averaged:
            self._progress.score(scores)
        single = [name for name, value in scores[0].items() if not isinstance(value, list)]
        self._write(
            record,
            "evaluation",
            {name: np.array([_number(mine[name]) for mine in scores]) for name in single},
        )
        return scores if self._step in self._evaluations else None

    def _write(self, record: Record | None, kind: str, values: dict[str, Any]) -> None:
        if record is not None:
            record.record(kind, self._step, self._step / self._group.steps_per_epoch, values)

    def _save(
        self,
        checkpoints: Checkpoints,
        states: Any,
        scores: list[Scores] | None,
        record: Record | None,
    ) -> None:
        every, stop = self._settings.checkpoint_steps, self._stop()
        regular = self._step == self._group.steps or (every and self._step % every == 0)
        # What was scored is saved, for it may be the best.
        if not (stop or regular or scores):
            return
        if record is not None:
            record.sync()  # the record is never behind the checkpoints
        data = {"progress": dataclasses.asdict(self._progress), "feed": self._group.feed.state()}
        name = f"{self._settings.selection}_{self._group.score}"
        best = None if scores is None else _mean([mine[name] for mine in scores])
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


def _looks(group: Group) -> set[int]:
    """Steps at which scores are recorded for the curves, and nothing else is done.

    At ends of calls that are there anyway, so that no run ends otherwise than without them; as few
    as cost little.
    """
    ends = -(-group.steps // STEPS_PER_CALL)
    trained = group.steps * group.examples / len(group.labels)
    affordable = int(LOOKS_SHARE * PASSES * trained / group.measured) if group.measured else 0
    count = min(MOST_LOOKS, affordable, ends - 1)
    return {round(i * ends / (count + 1)) * STEPS_PER_CALL for i in range(1, count + 1)}


def _averaged(group: Group, epochs: int) -> set[int]:
    """The ends of the last epochs, over which scores are averaged; none for the last one alone."""
    if epochs < 2:
        return set()
    total = round(group.steps / group.steps_per_epoch)
    before = {round((total - i) * group.steps_per_epoch) for i in range(1, epochs)}
    return {*(step for step in before if 0 < step < group.steps), group.steps}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _mean(scores: Sequence[Any]) -> float | None:
    mean = float(np.mean([_number(score) for score in scores]))
    return mean if math.isfinite(mean) else None
