"""The record of runs in training: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from experiments.runs.plan import Run
from experiments.runs.selection import amount


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

        Raises:
          OSError: the folder cannot be written.
        """
        self._folder, self.path = folder, folder / "metrics.jsonl"
        self._runs = [
            {name: value for name, value in dataclasses.asdict(run).items() if name != "loss"}
            for run in runs
        ]
        with self._failure(), contextlib.ExitStack() as files:
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                _cut(self.path, step)
            self._file = files.enter_context(self.path.open("a", encoding="utf-8"))
            self._boards = [
                files.enter_context(_Board(folder / "tensorboard" / _name(run), step))
                for run in runs
            ]
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the files; OSError if the last of the record cannot be written."""
        with self._failure():
            self._files.close()

    def record(self, kind: str, step: int, epoch: float, values: Mapping[str, Any]) -> None:
        """Writes a line for each run.

        Args:
          kind: "train" or "evaluation".
          step: steps taken so far.
          epoch: epochs so far.
          values: by name, one number for all runs, or one for each, `[R]`.

        Raises:
          OSError: it cannot be written.
        """
        with self._failure():
            for i, (run, board) in enumerate(zip(self._runs, self._boards, strict=True)):
                mine = {name: _number(value, i) for name, value in values.items()}
                line = {"kind": kind, "step": step, "epoch": round(epoch, 6), **run, **mine}
                self._file.write(json.dumps(line, allow_nan=False) + "\n")
                board.write(kind, step, mine)
            self._file.flush()

    def sync(self) -> None:
        """Returns when the record is on the disk; OSError if it cannot be."""
        with self._failure():
            os.fsync(self._file.fileno())

    @contextlib.contextmanager
    def _failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"The record of the training cannot be written to {self._folder} "
                f"({error.strerror or error}): make room there, and start the same command again, "
                "which goes on from the last checkpoint."
            ) from None


class _Board:
    """The scalars of one run for TensorBoard, in an event file; a context manager.

    Written at once. tensorboardX's own writer leaves it to a thread, which a full disk ends with a
    traceback, whereupon whoever has more to write waits for ever.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """A new file; what older ones have of steps after this one is hidden."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{step}"
        self._file = (folder / name).open("wb")
        self._add(file_version="brain.Event:2")
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, kind: str, step: int, values: Mapping[str, float | None]) -> None:
        """Writes those of the numbers that there are."""
        each = [
            Summary.Value(tag=f"{kind}/{name}", simple_value=value)
            for name, value in values.items()
            if value is not None
        ]
        self._add(step=step, summary=Summary(value=each))
        self._file.flush()

    def _add(self, **content: Any) -> None:
        data = Event(wall_time=time.time(), **content).SerializeToString()
        length = struct.pack("<Q", len(data))
        for part in (length, data):
            self._file.write(part + struct.pack("<I", masked_crc32c(part)))


def _cut(path: Path, step: int) -> None:
    """Leaves the whole lines up to a step, and never less than that."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.writelines(_until(path, step))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _until(path: Path, step: int) -> Iterator[bytes]:
    """The whole lines up to a step."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                yield line
        except (ValueError, KeyError, TypeError):  # what a full disk or a lost power leaves
            continue


def _name(run: Run) -> str:
    strength = "" if run.strength is None else f" at {run.strength}"
    return slug(f"{run.method}{strength}, {amount(run.train_size)}, seed {run.seed}")


def slug(text: str) -> str:
    """The text as a name that every file system takes."""
    return "".join(c if c.isalnum() or c in "-.=" else "_" for c in text)


def _number(value: Any, run: int) -> float | None:
    if value is None:
        return None
    number = float(value[run] if getattr(value, "ndim", 0) else value)
    return number if math.isfinite(number) else None
