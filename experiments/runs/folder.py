"""A comparison's folder read back, finished or not, and never changed by that."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import regjax as rj
from experiments import ConfigError
from experiments.report.tables import with_versions
from experiments.runs.entries import NEEDED
from experiments.runs.journal import ROBUSTNESS, parsed, run_of
from experiments.runs.plan import PLACEHOLDER, Run
from experiments.runs.selection import SCORES, SELECTIONS, Record, Row, select, summarize


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """What a folder holds.

    Attributes:
      name: the folder as the user wrote it.
      config: its config.json.
      planned: all runs of the config.
      records: the finished ones among them, in that order.
      environment: hardware and versions by name, as far as they were recorded.
      robustness: the scores under perturbations.
    """

    name: str
    config: Mapping[str, Any]
    planned: Sequence[Run]
    records: Sequence[Record]
    environment: Mapping[str, str]
    robustness: Sequence[Record]

    @cached_property
    def rows(self) -> list[Row]:
        """A row of each method, training size and strength."""
        return summarize(self.records)

    @cached_property
    def chosen(self) -> list[Row]:
        """The chosen ones among them."""
        return select(self.records, self.config["selection"])

    @property
    def diverged(self) -> list[Run]:
        """The runs that ended with a number that is not finite."""
        return [run_of(r) for r in self.records if summarize([r])[0].diverged]

    @property
    def unfinished(self) -> list[Run]:
        """The runs that have not ended yet."""
        finished = {run_of(record) for record in self.records}
        return [run for run in self.planned if run not in finished]

    def metrics(self) -> Iterator[Mapping[str, Any]]:
        """Yields the lines of every metrics.jsonl; older folders have none."""
        for path in sorted(Path(self.name).glob("training/*/metrics.jsonl")):
            yield from _lines(path, _is_metric)


def read(name: str | os.PathLike[str]) -> RunFolder:
    """Reads a folder.

    Raises:
      ConfigError: it is no comparison's folder, or one of its files is damaged.
      OSError: a file cannot be read.
    """
    folder = Path(name)
    config = _config(folder)
    planned = _plan(config, folder / "config.json")
    finished = {run_of(record): record for record in _lines(folder / "runs.jsonl", _is_record)}
    records = [finished[run] for run in planned if run in finished]
    environment = with_versions(_environment(folder / "results.json"), records)
    lines, known = _lines(folder / "robustness.jsonl", _is_tested), {*planned}
    robustness = [line for line in lines if run_of(line) in known]
    return RunFolder(os.fspath(name), config, planned, records, environment, robustness)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        missing = "holds no config.json" if folder.is_dir() else "is no folder"
        raise ConfigError(f"{folder} {missing}: name the --workdir of a comparison.")
    config = parsed(path.read_bytes())
    wrong = [entry.name for entry in NEEDED if not entry.fits(config.get(entry.name))]
    if not wrong and not all(isinstance(size, int) for size in config["train_sizes"]):
        wrong = ["train_sizes"]
    if not wrong and config["selection"] not in SELECTIONS:
        wrong = ["selection"]
    if wrong:
        raise ConfigError(
            f"{path} is damaged or no comparison's (see {', '.join(wrong)}): name the --workdir of "
            "a comparison."
        )
    return config


def _plan(config: Mapping[str, Any], path: Path) -> list[Run]:
    """As `comparison.plan`, without the checks of what only training needs."""
    runs = []
    for method, template in config["losses"].items():
        try:
            numbers = map(float, config["strengths"].get(method, ()))
            strengths: list[float | None] = [*numbers] or [None]
            losses = [repr(rj.parse(template.replace(PLACEHOLDER, repr(s)))) for s in strengths]
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: losses.{method}: {error}") from None
        for size in config["train_sizes"]:
            for strength, loss in zip(strengths, losses, strict=True):
                runs += [Run(method, loss, size, strength, s) for s in range(config["seeds"])]
    return runs


def _environment(path: Path) -> dict[str, str]:
    """Of the last report; an interrupted comparison has none yet."""
    found = parsed(path.read_bytes() if path.exists() else b"").get("environment")
    return found if isinstance(found, dict) else {}


def _lines(path: Path, sound: Callable[[Mapping[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    # What follows the last end of line was being written when the process died.
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        value = parsed(line)
        if not sound(value):
            raise ConfigError(f"line {number} of {path} is damaged: delete that line.")
        yield value


def _is_record(line: Mapping[str, Any]) -> bool:
    scores = [line.get(name, "") for name in SCORES]
    classes = line.get("class_accuracy") or []  # which older records have not
    names = _names_run(line) and isinstance(line.get("loss"), str) and isinstance(classes, list)
    return names and all(map(_is_number, scores + classes))


def _is_tested(line: Mapping[str, Any]) -> bool:
    series = [line.get(name) for name in ROBUSTNESS]
    same = all(isinstance(s, list) and len(s) == len(series[0] or ()) for s in series)
    names = _names_run(line) and all(isinstance(line.get(name), str) for name in ("loss", "text"))
    return names and same and all(_is_number(v) for s in series for v in s or ())


def _is_metric(line: Mapping[str, Any]) -> bool:
    when = [line.get("step"), line.get("epoch")]
    return _names_run(line) and all(isinstance(n, int | float) and math.isfinite(n) for n in when)


def _names_run(line: Mapping[str, Any]) -> bool:
    whole = all(isinstance(line.get(name), int) for name in ("train_size", "seed"))
    return whole and isinstance(line.get("method"), str) and _is_number(line.get("strength", ""))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)
