"""A comparison as a list of runs, its checks, and the journal that makes it resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import regjax as rj
from experiments.entries import LARGEST, ConfigError, check, check_distinct, is_number
from experiments.selection import SCORES

# What a finished run depends on besides its own fields. Losses, strengths, sizes and seeds may
# grow from one start of a comparison to the next.
SHARED = (
    "dataset",
    "data",
    "image_size",
    "mean",
    "std",
    "model",
    "dtype",
    "epochs",
    "batch_size",
    "accumulate",
    "optimizer",
    "learning_rate",
    "schedule",
    "clip_norm",
    "average",
    "growing",
    "validation_per_class",
)
PLACEHOLDER = "{strength}"
# A list of more runs than anybody trains would take all memory.
MOST_RUNS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Run:
    """One network to train: a method at a training size, a strength and a seed."""

    method: str
    loss: str
    train_size: int
    strength: float | None
    seed: int


FIELDS = tuple(field.name for field in dataclasses.fields(Run))


def plan(config: Mapping[str, Any]) -> list[Run]:
    """All runs of a config, methods first, then sizes, strengths and seeds.

    Raises:
      ConfigError: an entry is missing, out of range or repeated, a method's loss and strengths do
        not fit each other, or a loss does not parse.
    """
    check(config)
    unknown = sorted(set(config["strengths"]) - set(config["losses"]))
    if unknown:
        raise ConfigError(f"config.strengths has {unknown}, which config.losses has not.")
    losses = {method: list(_losses(config, method)) for method in config["losses"]}
    count = sum(map(len, losses.values())) * len(config["train_sizes"]) * config["seeds"]
    if count > MOST_RUNS:
        raise ConfigError(f"The config has {count} runs, which are more than {MOST_RUNS}.")
    every = [loss for each in losses.values() for _, loss in each]
    for name in config["growing"]:
        _check_growing(name, every)
    return [
        Run(method, repr(loss), size, strength, seed)
        for method, each in losses.items()
        for size in config["train_sizes"]
        for strength, loss in each
        for seed in range(config["seeds"])
    ]


def _losses(config: Mapping[str, Any], method: str) -> Iterator[tuple[float | None, rj.Loss]]:
    template = config["losses"][method]
    if not isinstance(template, str):
        raise ConfigError(
            f"config.losses.{method} must be an expression such as 'cross_entropy', but it is "
            f"{template!r}."
        )
    for strength in _strengths(config, method, template):
        yield strength, _loss(method, template.replace(PLACEHOLDER, repr(strength)))


def _strengths(config: Mapping[str, Any], method: str, template: str) -> tuple[float | None, ...]:
    given = config["strengths"].get(method, ())
    if not isinstance(given, tuple | list) or not all(map(is_number, given)):
        raise ConfigError(
            f"config.strengths.{method} must be a tuple of finite numbers, such as (0.1, 1.0), "
            f"but it is {given!r}."
        )
    if PLACEHOLDER not in template:
        if given:
            raise ConfigError(
                f"config.losses.{method} has no {PLACEHOLDER}, but config.strengths.{method} names "
                f"{given}: write {PLACEHOLDER} into the loss, or () for the strengths."
            )
        return (None,)
    if not given:
        raise ConfigError(
            f"config.losses.{method} has a {PLACEHOLDER}, but config.strengths.{method} names none."
        )
    if not min(given) > 0:
        raise ConfigError(
            f"Strengths must be positive, but config.strengths.{method} is {given}: a "
            "strength of 0 is the baseline, a method of its own."
        )
    strengths = tuple(map(float, given))
    check_distinct(f"strengths.{method}", strengths)
    return strengths


def _loss(method: str, text: str) -> rj.Loss:
    try:
        loss = rj.parse(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.losses.{method}: {error}") from None
    for name, stage in loss.named():
        for argument, value in stage.arguments.items():
            # None of the library's numbers means anything below 0.
            if isinstance(value, float) and not 0 <= value <= LARGEST:
                raise ConfigError(
                    f"config.losses.{method}: {name}'s {argument} must not be "
                    f"{'negative' if value < 0 else 'beyond float32'}, but it is {value}."
                )
    return loss


def _check_growing(name: Any, losses: Sequence[rj.Loss]) -> None:
    values = [
        value
        for loss in losses
        for stage, each in loss.named()
        for argument, value in each.arguments.items()
        if f"{stage}.{argument}" == name
    ]
    if not values or not all(isinstance(value, float) for value in values):
        raise ConfigError(
            f"config.growing names {name!r}, but can only name numbers that the losses are given, "
            "as 'stage.argument', such as 'isda.strength'."
        )


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
    """The finished runs of a work folder, one JSON line each, and the config they belong to."""

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
        self._path, self._writes = Path(workdir, "runs.jsonl"), writes
        self.folder = self._path.parent
        with _usable(workdir):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_config(self._path.with_name("config.json"), dict(config))
            self.records = list(self._read())

    def _check_config(self, path: Path, config: dict[str, Any]) -> None:
        config = json.loads(json.dumps(config))  # tuples become lists, as in the file
        if self._path.exists() or (self.folder / "training").exists():
            stored = _stored(path)
            changed = [name for name in SHARED if stored.get(name) != config[name]]
            if changed:
                raise ConfigError(
                    f"{path.parent} holds runs of another config ("
                    + ", ".join(f"{n}: {stored.get(n)!r}, now {config[n]!r}" for n in changed)
                    + "): choose another --workdir, or the config as it was."
                )
        if not self._writes:
            return
        part = path.with_suffix(".part")
        part.write_text(json.dumps(config, indent=2) + "\n")
        os.replace(part, path)

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines(keepends=True)
        # A run that was being written when the process died has no end of line, and is repeated.
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines) and self._writes:
            os.truncate(self._path, sum(map(len, whole)))
        for number, line in enumerate(whole, 1):
            record = parsed(line)
            if not {*FIELDS, *SCORES} <= record.keys():
                raise ConfigError(
                    f"line {number} of {self._path} is damaged: delete that line, and its run is "
                    "repeated."
                )
            yield record

    def pending(self, runs: list[Run]) -> list[Run]:
        """Those of the runs that have not finished."""
        finished = self._finished()
        return [run for run in runs if run not in finished]

    def of(self, runs: list[Run]) -> list[dict[str, Any]]:
        """The records of those of the runs that have finished, in their order."""
        finished = self._finished()
        return [finished[run] for run in runs if run in finished]

    def _finished(self) -> dict[Run, dict[str, Any]]:
        return {Run(**{name: r[name] for name in FIELDS}): r for r in self.records}

    def append(self, records: list[dict[str, Any]]) -> None:
        """Writes finished runs, whole lines and to the disk; what is not finite is null."""
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
