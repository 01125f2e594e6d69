"""The record of runs in training: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from experiments.comparison import Run


class Monitor:
    """Writes what runs that are trained together report, a line each; a context manager.

    A line of metrics.jsonl is an object with "kind" ("train" or "evaluation"), "step", "epoch", the
    run's "method", "train_size", "strength" and "seed", and numbers; what is not finite is null.
    """

    def __init__(self, folder: Path, runs: Sequence[Run], step: int) -> None:
        """Opens the record at a step; lines of later steps, of a run that was killed, go.

        Args:
          folder: of the record, made if missing.
          runs: which are trained together.
          step: from which the training goes on.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            part = self.path.with_suffix(".part")
            part.write_bytes(b"".join(_until(self.path, step)))
            os.replace(part, self.path)
        self._runs = [
            {name: value for name, value in dataclasses.asdict(run).items() if name != "loss"}
            for run in runs
        ]
        self._file = self.path.open("a", encoding="utf-8")
        self._boards = [
            SummaryWriter(str(folder / "tensorboard" / _name(run)), purge_step=step + 1)
            for run in runs
        ]

    def __enter__(self) -> Monitor:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the files."""
        self._file.close()
        for board in self._boards:
            board.close()

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, Any]) -> None:
        """Writes a line for each run.

        Args:
          kind: "train" or "evaluation".
          step: steps taken so far.
          epoch: epochs so far.
          values: by name, one number for all runs, or one for each, `[R]`.
        """
        for i, (run, board) in enumerate(zip(self._runs, self._boards, strict=True)):
            mine = {name: _number(value, i) for name, value in values.items()}
            line = {"kind": kind, "step": step, "epoch": round(epoch, 6), **run, **mine}
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            for name, value in mine.items():
                if value is not None:
                    board.add_scalar(f"{kind}/{name}", value, step)
        self._file.flush()

    def sync(self) -> None:
        """Returns when the record is on the disk."""
        os.fsync(self._file.fileno())


def _until(path: Path, step: int) -> Iterator[bytes]:
    """The whole lines up to a step."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                yield line
        except (ValueError, KeyError, TypeError):  # what a full disk or a lost power leaves
            continue


def _name(run: Run) -> str:
    strength = "" if run.strength is None else f" at {run.strength:g}"
    return slug(f"{run.method}{strength}, {run.train_size} per class, seed {run.seed}")


def slug(text: str) -> str:
    """The text as a name that every file system takes."""
    return "".join(c if c.isalnum() or c in "-.=" else "_" for c in text)


def _number(value: Any, run: int) -> float | None:
    if value is None:
        return None
    number = float(value[run] if getattr(value, "ndim", 0) else value)
    return number if math.isfinite(number) else None
