"""A comparison's folder read back, finished or not, and never changed by that."""

from __future__ import annotations

import dataclasses
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import regjax as rj
from experiments import ConfigError, is_number
from experiments.runs import about, lines, retraining
from experiments.runs.about import About
from experiments.runs.entries import NEEDED
from experiments.runs.plan import PLACEHOLDER, Run
from experiments.runs.records import is_finished, is_report, is_tested, run_of
from experiments.runs.selection import SELECTIONS, Record, Row, is_diverged, select, summarize


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """What a folder holds.

    Attributes:
      name: the folder as the user wrote it.
      config: its config.json.
      planned: all runs of the config.
      records: the finished runs among them, in that order.
      environment: the hardware and versions by name, as far as they were recorded.
      robustness: the scores under perturbations.
      about: the experiment and its data.
      first: the folder of the runs that chose the strengths, where runs are of two phases and it
        has been begun.
    """

    name: str
    config: Mapping[str, Any]
    planned: Sequence[Run]
    records: Sequence[Record]
    environment: Mapping[str, str]
    robustness: Sequence[Record]
    about: About
    first: RunFolder | None = None

    @cached_property
    def rows(self) -> list[Row]:
        """A row of each method, training size and strength."""
        return summarize(self.records, self.about.score)

    @cached_property
    def chosen(self) -> list[Row]:
        """The chosen ones among them."""
        return select(self.records, self.config["selection"], self.about.score)

    @property
    def diverged(self) -> list[Run]:
        """The runs that ended with a number that is not finite."""
        return [run_of(r) for r in self.records if is_diverged(r, self.about.score)]

    @property
    def unfinished(self) -> list[Run]:
        """The runs that have not ended yet."""
        finished = {run_of(record) for record in self.records}
        return [run for run in self.planned if run not in finished]

    @property
    def strengths(self) -> dict[tuple[str, int], float | None]:
        """The strengths by method and training size of which all runs have finished."""
        return retraining.chosen(self.planned, self.records, self.about.score)

    @property
    def only_method(self) -> str:
        """The one method of the config.

        Raises:
          ConfigError: there are several.
        """
        methods = list(self.config["losses"])
        if len(methods) != 1:
            raise ConfigError(f"{self.name} has several methods: name one of {', '.join(methods)}.")
        return methods[0]

    def metrics(self) -> Iterator[Mapping[str, Any]]:
        """Yields the lines of every metrics.jsonl; older folders have none."""
        for path in sorted(Path(self.name).glob("training/*/metrics.jsonl")):
            yield from lines.read(path, is_report)


def read(name: str | os.PathLike[str]) -> RunFolder:
    """Reads a folder.

    Raises:
      ConfigError: it is no comparison's folder, or one of its files is damaged.
      OSError: a file cannot be read.
    """
    folder = Path(name)
    config = _config(folder)
    stored = list(lines.read(folder / "runs.jsonl", is_finished))
    planned = _plan(config, stored, folder / "config.json")
    first = first_phase(folder, config)
    if retraining.first(config):
        planned = retraining.second(planned, first.strengths if first else {})
    finished = {run_of(record): record for record in stored}
    records = [finished[run] for run in planned if run in finished]
    tested, known = lines.read(folder / "robustness.jsonl", is_tested), {*planned}
    return RunFolder(
        name=os.fspath(name),
        config=config,
        planned=planned,
        records=records,
        environment=with_versions(_environment(folder / "results.json"), records),
        robustness=[line for line in tested if run_of(line) in known],
        about=about.read(folder),
        first=first,
    )


def first_phase(folder: Path, config: Mapping[str, Any]) -> RunFolder | None:
    """The runs that choose strengths, where runs are of two phases and these have been begun."""
    path = folder / retraining.FOLDER
    return read(path) if retraining.first(config) and (path / "config.json").exists() else None


def with_versions(environment: Mapping[str, str], records: Sequence[Record]) -> Mapping[str, str]:
    """Returns the environment with the versions that the runs were trained with."""
    versions = dict.fromkeys(record.get("versions", "not recorded") for record in records)
    if list(versions) == ["not recorded"]:
        return environment
    return {**environment, "versions": " and ".join(versions)}


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        missing = "holds no config.json" if folder.is_dir() else "is no folder"
        raise ConfigError(f"{folder} {missing}: name the --workdir of a comparison.")
    config = lines.read_object(path)
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


def _plan(config: Mapping[str, Any], records: Sequence[Record], path: Path) -> list[Run]:
    """As `plan.plan`, without the checks of what only training needs."""
    recorded = {(r["method"], r["strength"]): r["loss"] for r in records}
    runs = []
    for method, template in config["losses"].items():
        strengths = _strengths(config, method, path)
        losses = [_loss(template, s, recorded.get((method, s))) for s in strengths]
        for size in config["train_sizes"]:
            for strength, loss in zip(strengths, losses, strict=True):
                runs += [Run(method, loss, size, strength, s) for s in range(config["seeds"])]
    return runs


def _strengths(config: Mapping[str, Any], method: str, path: Path) -> list[float | None]:
    """Of a method, None alone where it has none, once its entries are what they should be."""
    template, numbers = config["losses"][method], config["strengths"].get(method, ())
    if not isinstance(template, str):
        raise ConfigError(
            f"{path}: losses.{method} must be an expression, not {reprlib.repr(template)}."
        )
    if not isinstance(numbers, list | tuple) or not all(map(is_number, numbers)):
        raise ConfigError(
            f"{path}: strengths.{method} must be a list of numbers, not {reprlib.repr(numbers)}."
        )
    return [*map(float, numbers)] or [None]


def _loss(template: str, strength: float | None, recorded: str | None) -> str:
    """The loss as `Run` has it; one that only the experiment can parse, as it was recorded."""
    text = template.replace(PLACEHOLDER, repr(strength))
    try:
        return repr(rj.parse(text))
    except (TypeError, ValueError):
        return text if recorded is None else recorded


def _environment(path: Path) -> dict[str, str]:
    """Of the last report; an interrupted comparison has none yet."""
    found = lines.read_object(path).get("environment")
    return found if isinstance(found, dict) else {}


def parts(run: str | os.PathLike[str]) -> tuple[str, str]:
    """The folder and the method, "" where none is named; a folder may have a colon in its name.

    Example:
      `parts("runs/judge:baseline") == ("runs/judge", "baseline")`
    """
    run = os.fspath(run)
    if os.path.isdir(run) or ":" not in run:
        return run, ""
    name, _, method = run.rpartition(":")
    return name, method
