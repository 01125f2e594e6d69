"""A comparison as a list of runs, its checks, and the journal that makes it resumable."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import regjax as rj
from experiments.selection import SELECTIONS

# What a finished run depends on besides its own fields. Losses, strengths, sizes and seeds may
# grow from one start of a comparison to the next.
SHARED = (
    "dataset",
    "mean",
    "std",
    "model",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "validation_per_class",
)
PLACEHOLDER = "{strength}"


class ConfigError(ValueError):
    """A config that cannot be run, in one sentence."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One network to train: a method at a training size, a strength and a seed."""

    method: str
    loss: str
    train_size: int
    strength: float | None
    seed: int


def plan(config: Mapping[str, Any]) -> list[Run]:
    """All runs of a config, methods first, then sizes, strengths and seeds.

    Raises:
      ConfigError: an entry is out of range, a method lacks strengths, or a loss does not parse.
    """
    _check(config)
    runs = []
    for method, template in config["losses"].items():
        for size in config["train_sizes"]:
            for strength in _strengths(config, method, template):
                loss = _expression(method, template, strength)
                runs += [Run(method, loss, size, strength, s) for s in range(config["seeds"])]
    return runs


def _check(config: Mapping[str, Any]) -> None:
    for name in ("seeds", "epochs", "batch_size", "runs_at_once"):
        if config[name] < 1:
            raise ConfigError(f"config.{name} must be at least 1, but it is {config[name]}.")
    if not config["losses"] or not config["train_sizes"]:
        raise ConfigError("config.losses and config.train_sizes must each name at least one.")
    if min(config["train_sizes"]) < 1:
        raise ConfigError(
            f"config.train_sizes must be at least 1 image per class: {config['train_sizes']}."
        )
    if config["selection"] not in SELECTIONS:
        raise ConfigError(
            f"config.selection is {config['selection']!r}, but it can be {' or '.join(SELECTIONS)}."
        )
    if config["selection"] == "validation" and config["validation_per_class"] < 1:
        raise ConfigError(
            "config.selection='validation' needs config.validation_per_class of at least 1."
        )
    unknown = sorted(set(config["strengths"]) - set(config["losses"]))
    if unknown:
        raise ConfigError(f"config.strengths has {unknown}, which config.losses has not.")


def _strengths(config: Mapping[str, Any], method: str, template: str) -> tuple[float | None, ...]:
    if PLACEHOLDER not in template:
        return (None,)
    strengths = tuple(float(s) for s in config["strengths"].get(method, ()))
    if not strengths:
        raise ConfigError(
            f"config.losses.{method} has a {PLACEHOLDER}, but config.strengths.{method} names none."
        )
    return strengths


def _expression(method: str, template: str, strength: float | None) -> str:
    text = template.replace(PLACEHOLDER, repr(strength))
    try:
        return repr(rj.parse(text))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.losses.{method}: {error}") from None


class Journal:
    """The finished runs of a work folder, one JSON line each, and the config they belong to."""

    def __init__(self, workdir: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
        """Opens the folder, or makes it.

        Raises:
          ConfigError: it cannot be written, or holds runs of another config.
        """
        self._path = Path(workdir, "runs.jsonl")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._check_config(self._path.with_name("config.json"), dict(config))
            self.records = list(self._read())
        except OSError as error:
            raise ConfigError(
                f"--workdir={workdir} cannot be used ({error}): choose a folder that you may write."
            ) from None

    def _check_config(self, path: Path, config: dict[str, Any]) -> None:
        config = json.loads(json.dumps(config))  # tuples become lists, as in the file
        if path.exists() and self._path.exists():
            stored = json.loads(path.read_text())
            changed = [name for name in SHARED if stored.get(name) != config[name]]
            if changed:
                raise ConfigError(
                    f"{path.parent} holds runs of another config ("
                    + ", ".join(f"{n}: {stored.get(n)!r}, now {config[n]!r}" for n in changed)
                    + "): choose another --workdir, or the config as it was."
                )
        part = path.with_suffix(".part")
        part.write_text(json.dumps(config, indent=2) + "\n")
        os.replace(part, path)

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        lines = self._path.read_bytes().splitlines(keepends=True)
        # A run that was being written when the process died has no end of line, and is repeated.
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            self._path.write_bytes(b"".join(whole))
        for number, line in enumerate(whole, 1):
            try:
                yield json.loads(line)
            except ValueError:
                raise ConfigError(
                    f"line {number} of {self._path} is damaged: delete that line, and its run is "
                    "repeated."
                ) from None

    def pending(self, runs: list[Run]) -> list[Run]:
        """Those of the runs that have not finished."""
        return [run for run in runs if run not in self._finished()]

    def of(self, runs: list[Run]) -> list[dict[str, Any]]:
        """The records of those of the runs that have finished, in their order."""
        finished = self._finished()
        return [finished[run] for run in runs if run in finished]

    def _finished(self) -> dict[Run, dict[str, Any]]:
        fields = [field.name for field in dataclasses.fields(Run)]
        return {Run(**{name: r[name] for name in fields}): r for r in self.records}

    def append(self, records: list[dict[str, Any]]) -> None:
        """Writes finished runs, whole lines and to the disk."""
        with self._path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
        self.records += records
