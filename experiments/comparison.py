"""A comparison as a list of runs, its checks, and the journal that makes it resumable."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import regjax as rj
from experiments.selection import SCORES, SELECTIONS

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

LEAST = {
    "seeds": 1,
    "epochs": 1,
    "batch_size": 1,
    "runs_at_once": 1,
    "accumulate": 1,
    "keep_checkpoints": 1,
    "fsdp": 1,
    "image_size": 1,
    "validation_per_class": 0,
    "checkpoint_steps": 0,
    "evaluate_epochs": 0,
    "workers": 0,
    "clip_norm": 0,
    "average": 0,
}
KNOWN = {"data": ("memory", "stream"), "dtype": ("float32", "bfloat16")}


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


FIELDS = tuple(field.name for field in dataclasses.fields(Run))


def plan(config: Mapping[str, Any]) -> list[Run]:
    """All runs of a config, methods first, then sizes, strengths and seeds.

    Raises:
      ConfigError: an entry is out of range or repeated, a method's loss and strengths do not fit
        each other, or a loss does not parse.
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
    for name, least in LEAST.items():
        if not least <= config[name] < math.inf:
            raise ConfigError(f"config.{name} must be at least {least}, but it is {config[name]}.")
    if not config["losses"] or not config["train_sizes"]:
        raise ConfigError("config.losses and config.train_sizes must each name at least one.")
    if min(config["train_sizes"]) < 0:
        raise ConfigError(
            "config.train_sizes must be at least 1 image per class, or 0 for all of them: "
            f"{config['train_sizes']}."
        )
    _check_training(config)
    _check_distinct("train_sizes", config["train_sizes"])
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


def _check_training(config: Mapping[str, Any]) -> None:
    for name, known in KNOWN.items():
        if config[name] not in known:
            raise ConfigError(
                f"config.{name} is {config[name]!r}, but it can be {' or '.join(map(repr, known))}."
            )
    if not config["learning_rate"] > 0:
        raise ConfigError(
            f"config.learning_rate must be positive, but it is {config['learning_rate']}."
        )
    if not config["average"] < 1:
        raise ConfigError(
            "config.average is the decay of the parameters' moving average and must be below 1, "
            f"such as 0.999, but it is {config['average']}."
        )
    if config["batch_size"] % config["accumulate"]:
        raise ConfigError(
            f"config.accumulate={config['accumulate']} must divide config.batch_size="
            f"{config['batch_size']}: the batch is split into that many equal parts."
        )
    if config["data"] == "stream":
        _check_stream(config)


def _check_stream(config: Mapping[str, Any]) -> None:
    needed = {"train_sizes": (0,), "validation_per_class": 0, "runs_at_once": 1}
    for name, value in needed.items():
        given = tuple(config[name]) if name == "train_sizes" else config[name]
        if given != value:
            raise ConfigError(
                f"config.data='stream' trains on all images, one run at a time: config.{name} must "
                f"be {value!r}, but it is {given!r}."
            )


def _check_distinct(name: str, values: Sequence[float]) -> None:
    """A number that stands twice would be counted as more runs than were trained."""
    if len(set(values)) < len(values):
        raise ConfigError(f"config.{name} names a number twice: {tuple(values)}.")


def _strengths(config: Mapping[str, Any], method: str, template: str) -> tuple[float | None, ...]:
    strengths = tuple(float(s) for s in config["strengths"].get(method, ()))
    if PLACEHOLDER not in template:
        if strengths:
            raise ConfigError(
                f"config.losses.{method} has no {PLACEHOLDER}, but config.strengths.{method} names "
                f"{strengths}: write {PLACEHOLDER} into the loss, or () for the strengths."
            )
        return (None,)
    if not strengths:
        raise ConfigError(
            f"config.losses.{method} has a {PLACEHOLDER}, but config.strengths.{method} names none."
        )
    if not all(0 < strength < math.inf for strength in strengths):
        raise ConfigError(
            f"Strengths must be positive, but config.strengths.{method} is {strengths}: a "
            "strength of 0 is the baseline, a method of its own."
        )
    _check_distinct(f"strengths.{method}", strengths)
    return strengths


def _expression(method: str, template: str, strength: float | None) -> str:
    text = template.replace(PLACEHOLDER, repr(strength))
    try:
        return repr(rj.parse(text))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.losses.{method}: {error}") from None


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
            self._path.write_bytes(b"".join(whole))
        for number, line in enumerate(whole, 1):
            record = _parsed(line)
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
        if self._writes:
            with self._path.open("a") as file:
                file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in strict)
                file.flush()
                os.fsync(file.fileno())
        self.records += strict


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _stored(path: Path) -> dict[str, Any]:
    stored = _parsed(path.read_bytes() if path.exists() else b"")
    if not stored:
        raise ConfigError(
            f"{path} is missing or damaged, so that the runs beside it could be of any config: "
            "choose another --workdir, or put that file back."
        )
    return stored


def _parsed(text: bytes) -> dict[str, Any]:
    """The JSON object in the text; an empty one if there is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
