"""The work folder of a comparison: its finished runs, line by line, which make it resumable."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import ConfigError
from experiments.runs import entries
from experiments.runs.plan import FIELDS, Run
from experiments.runs.selection import SCORES

# A run's scores under a perturbation, one for each level.
ROBUSTNESS = ("levels", "accuracy", "nll", "ece")


@contextlib.contextmanager
def alone(workdir: str | os.PathLike[str], writes: bool = True) -> Iterator[None]:
    """Makes the folder and keeps other commands out, until this process ends, however it does.

    Args:
      workdir: the folder.
      writes: whether this process writes, or another one does.

    Raises:
      ConfigError: it cannot be written, or another process trains in it.
    """
    if not os.fspath(workdir):
        raise ConfigError("--workdir is empty: name a folder.")
    if not writes:
        yield
        return
    with _usable(workdir):
        Path(workdir).mkdir(parents=True, exist_ok=True)
        file = Path(workdir, ".lock").open("w")  # noqa: SIM115 - it is closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another process is training in {workdir}: wait for it, or choose another "
                "--workdir."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield


@contextlib.contextmanager
def _usable(workdir: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--workdir={workdir} cannot be used ({error}): choose a folder that you may write and "
            "that has room."
        ) from None


class Journal:
    """The finished runs of a work folder, one JSON line each, and the config they belong to.

    Attributes:
      folder: the work folder.
      runs: what became of each run, in runs.jsonl.
      robustness: its scores under each perturbation, in robustness.jsonl.
    """

    def __init__(
        self, workdir: str | os.PathLike[str], config: Mapping[str, Any], writes: bool = True
    ) -> None:
        """Opens the folder, or makes it.

        Args:
          workdir: the folder.
          config: of the comparison.
          writes: whether this process writes, or another one does.

        Raises:
          ConfigError: it cannot be written, is damaged, or holds runs of another config.
        """
        self.folder, self._writes = Path(workdir), writes
        with _usable(workdir):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_config(self.folder / "config.json", dict(config))
            self.runs = Lines(self.folder / "runs.jsonl", (*FIELDS, *SCORES), writes)
            needed = (*FIELDS, "text", *ROBUSTNESS)
            self.robustness = Lines(self.folder / "robustness.jsonl", needed, writes)

    def _check_config(self, path: Path, config: dict[str, Any]) -> None:
        config = json.loads(json.dumps(config))  # tuples become lists, as in the file
        if (self.folder / "runs.jsonl").exists() or (self.folder / "training").exists():
            stored = entries.complete(_stored(path))
            changed = entries.changed(stored, config)
            if changed:
                raise ConfigError(
                    f"{path.parent} holds runs of another config ("
                    + ", ".join(f"{n}: {stored[n]!r}, now {config[n]!r}" for n in changed)
                    + "): choose another --workdir, or the config as it was."
                )
        if not self._writes:
            return
        part = path.with_suffix(".part")
        part.write_text(json.dumps(config, indent=2) + "\n")
        os.replace(part, path)

    def pending(self, runs: list[Run]) -> list[Run]:
        """Those of the runs that have not finished."""
        finished = self._finished()
        return [run for run in runs if run not in finished]

    def of(self, runs: list[Run]) -> list[dict[str, Any]]:
        """The records of those of the runs that have finished, in their order."""
        finished = self._finished()
        return [finished[run] for run in runs if run in finished]

    def tested(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """The records of those of the runs that were tested, in the order of the tests."""
        planned = {*runs}
        return [record for record in self.robustness.records if run_of(record) in planned]

    def _finished(self) -> dict[Run, dict[str, Any]]:
        # A group that lost a line is taken up again as a whole, as its checkpoints have it.
        records = self.runs.records
        places = {(r["group"], r["place"]) for r in records if "together" in r}
        whole = Counter(group for group, _ in places)
        return {run_of(r): r for r in records if whole[r.get("group")] == r.get("together", 0)}


def run_of(record: Mapping[str, Any]) -> Run:
    """The run that a record is of."""
    return Run(**{name: record[name] for name in FIELDS})


class Lines:
    """A file with a record a line, which holds whole lines whatever happens."""

    def __init__(self, path: Path, needed: Sequence[str], writes: bool) -> None:
        """Reads it, if it is there.

        Args:
          path: of the file.
          needed: what every record has.
          writes: whether this process writes, or another one does.

        Raises:
          ConfigError: it is damaged.
        """
        self._path, self._needed, self._writes = path, {*needed}, writes
        self.records = list(self._read())

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines(keepends=True)
        # What was being written when the process died has no end of line, and is repeated.
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines) and self._writes:
            os.truncate(self._path, sum(map(len, whole)))
        for number, line in enumerate(whole, 1):
            record = parsed(line)
            if not self._needed <= record.keys():
                raise ConfigError(
                    f"line {number} of {self._path} is damaged: delete that line, and its run is "
                    "repeated."
                )
            yield record

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


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _stored(path: Path) -> dict[str, Any]:
    stored = parsed(path.read_bytes() if path.exists() else b"")
    if not stored:
        raise ConfigError(
            f"{path} is missing or damaged, so that the runs beside it could be of any config: "
            "choose another --workdir, or put that file back."
        )
    return stored


def parsed(text: bytes) -> dict[str, Any]:
    """The JSON object in the text; an empty one if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
