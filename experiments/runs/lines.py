"""A work folder's files of JSON, one object or one a line: read, checked and added to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import ConfigError

Sound = Callable[[Mapping[str, Any]], bool]


class Lines:
    """A file with a record a line, which holds whole lines whatever happens.

    Attributes:
      records: the records that it holds.
    """

    def __init__(self, path: Path, sound: Sound, writes: bool) -> None:
        """Reads it, if it is there.

        Args:
          path: of the file.
          sound: says whether a record is.
          writes: whether this process writes, or another one does.

        Raises:
          ConfigError: it is damaged.
        """
        self._path, self._writes = path, writes
        if writes and path.exists():
            _cut(path)
        self.records = list(read(path, sound, then=", and its run is repeated"))

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Writes records, whole lines and to the disk; what is not finite is null."""
        strict = [{name: _finite(value) for name, value in r.items()} for r in records]
        try:
            if self._writes:
                self._write("".join(json.dumps(r, allow_nan=False) + "\n" for r in strict))
        except OSError as error:
            raise OSError(
                f"{self._path} cannot be written ({error.strerror or error}): make room there, and "
                "the same command goes on."
            ) from None
        self.records += strict

    def _write(self, lines: str) -> None:
        # In one piece, so that of runs that were trained together all are recorded or none.
        with self._path.open("ab", buffering=0) as file:
            file.write(lines.encode())
            os.fsync(file.fileno())


def read(path: Path, sound: Sound, then: str = "") -> Iterator[dict[str, Any]]:
    """Yields a file's records, of which there are none where it is missing.

    Args:
      path: of the file.
      sound: says whether a record is.
      then: what is to be said after "delete that line".

    Raises:
      ConfigError: a line is damaged.
    """
    if not path.exists():
        return
    # What follows the last end of line was being written when the process died.
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        record = _parsed(line)
        if not sound(record):
            raise ConfigError(f"line {number} of {path} is damaged: delete that line{then}.")
        yield record


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none."""
    return _parsed(path.read_bytes()) if path.exists() else {}


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _cut(path: Path) -> None:
    """Leaves the whole lines: what was being written when the process died is repeated."""
    text = path.read_bytes()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.truncate(path, whole)


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
