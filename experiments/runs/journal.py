"""The work folder of a comparison that trains: what has finished, and whose it is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import ConfigError
from experiments.runs import entries
from experiments.runs.lines import Lines, read_object
from experiments.runs.plan import Run
from experiments.runs.records import is_finished, is_tested, run_of


@contextlib.contextmanager
def alone(
    workdir: str | os.PathLike[str], writes: bool = True, flag: str = "--workdir"
) -> Iterator[None]:
    """Makes the folder and keeps other commands out, until this process ends, however it does.

    Args:
      workdir: the folder.
      writes: whether this process writes, or another one does.
      flag: what the folder is named by.

    Raises:
      ConfigError: it cannot be written, or another process is at work in it.
    """
    if not os.fspath(workdir):
        raise ConfigError(f"{flag} is empty: name a folder.")
    _check_name(os.path.abspath(workdir))
    if not writes:
        yield
        return
    with _usable(workdir, flag):
        Path(workdir).mkdir(parents=True, exist_ok=True)
        file = Path(workdir, ".lock").open("w")  # noqa: SIM115 - it is closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"Another process is training in {workdir}: wait for it, or choose another {flag}."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield


def _check_name(path: str) -> None:
    """Checkpoints are written by a library that knows UTF-8 only."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"--workdir={path!r} has a name that is not UTF-8, to which no checkpoint can be "
            "written: choose another folder."
        ) from None


@contextlib.contextmanager
def _usable(workdir: str | os.PathLike[str], flag: str = "--workdir") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{flag}={workdir} cannot be used ({error}): choose a folder that you may write and "
            "that has room."
        ) from None


class Journal:
    """The finished runs of a work folder, one JSON line each, and the config they belong to.

    Attributes:
      folder: the work folder.
      runs: the records of the finished runs, in runs.jsonl.
      robustness: the scores of each run under each perturbation, in robustness.jsonl.
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
            self.runs = Lines(self.folder / "runs.jsonl", is_finished, writes)
            self.robustness = Lines(self.folder / "robustness.jsonl", is_tested, writes)

    def _check_config(self, path: Path, config: dict[str, Any]) -> None:
        config = json.loads(json.dumps(config))  # tuples become lists, as in the file
        if (self.folder / "runs.jsonl").exists() or (self.folder / "training").exists():
            stored = entries.complete(_stored(path))
            changed = entries.changed(stored, config)
            if changed:
                before, now = entries.shared(stored), entries.shared(config)
                raise ConfigError(
                    f"{path.parent} holds runs of another config ("
                    + ", ".join(f"{n}: {before[n]!r}, now {now[n]!r}" for n in changed)
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


def _stored(path: Path) -> dict[str, Any]:
    stored = read_object(path)
    if not stored:
        raise ConfigError(
            f"{path} is missing or damaged, so that the runs beside it could be of any config: "
            "choose another --workdir, or put that file back."
        )
    return stored
