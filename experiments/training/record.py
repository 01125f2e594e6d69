"""The record of runs in training: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import contextlib
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
from tensorboardX.record_writer import RecordWriter


class Record:
    """Writes what runs that are trained together report, a line each; a context manager.

    A line of metrics.jsonl is an object with "kind" ("train" or "evaluation"), "step", "epoch", the
    run's labels, and numbers; what is not finite is null.

    Example:
      with Record(folder, [{"method": "plain", "seed": 0}], step=0) as record:
          record.record("train", 20, 0.5, {"total": 1.25})
    """

    def __init__(self, folder: Path, labels: Sequence[Mapping[str, Any]], step: int) -> None:
        """Opens the record at a step; lines of later steps, of a run that was killed, go.

        Args:
          folder: of the record, made if missing.
          labels: of each run that is trained, what tells it from the others, as JSON.
          step: from which the training goes on.

        Raises:
          OSError: the folder cannot be written.
        """
        self._folder, self.path = folder, folder / "metrics.jsonl"
        self._labels = labels
        with self._failure(), contextlib.ExitStack() as files:
            folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                _cut(self.path, step)
            self._file = files.enter_context(self.path.open("a", encoding="utf-8"))
            self._boards = [
                files.enter_context(_Board(folder / "tensorboard" / _name(label), step))
                for label in labels
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
            for i, (label, board) in enumerate(zip(self._labels, self._boards, strict=True)):
                mine = {name: _number(value, i) for name, value in values.items()}
                line = {"kind": kind, "step": step, "epoch": round(epoch, 6), **label, **mine}
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


def picture(folder: Path, label: Mapping[str, Any], step: int, png: bytes) -> None:
    """Adds a picture of a run to what TensorBoard shows of it, in an event file of its own.

    Args:
      folder: of the record.
      label: of the run.
      step: at which it is shown.
      png: the picture, in colour.

    Raises:
      OSError: it cannot be written.
    """
    width, height = struct.unpack_from(">II", png, 16)  # in every PNG at the same place
    with _Board(folder / "tensorboard" / _name(label), step) as board:
        board.show(
            "picture", step, Summary.Image(width=width, height=height, encoded_image_string=png)
        )


class _Board:
    """The scalars and the pictures of one run for TensorBoard, in an event file; a context manager.

    Written at once. tensorboardX's SummaryWriter leaves it to a thread, which a full disk ends with
    a traceback, whereupon whoever has more to write waits for ever.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """A new file; what older ones have of steps after this one is hidden."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{step}"
        self._events = _Events(str(folder / name))
        self._add(file_version="brain.Event:2")
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def write(self, kind: str, step: int, values: Mapping[str, float | None]) -> None:
        """Writes those of the numbers that there are."""
        each = [
            Summary.Value(tag=f"{kind}/{name}", simple_value=value)
            for name, value in values.items()
            if value is not None
        ]
        self._add(step=step, summary=Summary(value=each))
        self._events.flush()

    def show(self, tag: str, step: int, image: Summary.Image) -> None:
        """Writes a picture."""
        self._add(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def _add(self, **content: Any) -> None:
        self._events.write(Event(wall_time=time.time(), **content).SerializeToString())


class _Events(RecordWriter):
    def flush(self) -> None:
        """Lets readers see what was written; RecordWriter's would also wait for the disk."""
        self._writer.flush()


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


def _name(label: Mapping[str, Any]) -> str:
    return slug(", ".join(f"{k}={value}" for k, value in label.items() if value is not None))


def slug(text: str) -> str:
    """The text as a name that every file system takes."""
    return "".join(c if c.isalnum() or c in "-.=" else "_" for c in text)


def _number(value: Any, run: int) -> float | None:
    if value is None:
        return None
    number = float(value[run] if getattr(value, "ndim", 0) else value)
    return number if math.isfinite(number) else None
