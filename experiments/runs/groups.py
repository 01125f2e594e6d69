"""Which runs are trained together, and how."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments import ConfigError
from experiments.runs import entries, entry_values, lines, networks
from experiments.runs.plan import FIELDS, Run
from experiments.runs.problem import Problem
from experiments.runs.records import is_report
from experiments.runs.selection import amount
from experiments.training.feeds import Member
from experiments.training.group import Group, Settings
from experiments.training.record import slug

LABELS = tuple(name for name in FIELDS if name != "loss")


def groups(
    problem: Problem,
    runs: Sequence[Run],
    pending: Collection[Run],
    begun: Mapping[str, Sequence[Run]] = MappingProxyType({}),
) -> Iterator[tuple[str, Group]]:
    """The pending runs that are trained together, with a name for each such group's folder."""
    most = entry_values.runs_at_once(problem.config)
    for name, part in divided(runs, pending, most, begun).items():
        yield name, group(problem, part)


def divided(
    runs: Sequence[Run], pending: Collection[Run], most: int, begun: Mapping[str, Sequence[Run]]
) -> dict[str, Sequence[Run]]:
    """The pending runs in groups of at most so many, by the names of their folders.

    What has begun comes first and is as it was. All runs are divided, so that an interruption does
    not divide them in another way.
    """
    left = set(pending).difference(*begun.values())
    alike = itertools.groupby(runs, lambda run: (run.method, run.train_size))
    parts = [
        [run for run in together if run in left]
        for _, some in alike
        for together in _evenly(list(some), most)
    ]
    return {**begun, **{_name(part): part for part in parts if part}}


def _name(part: Sequence[Run]) -> str:
    # Groups of other runs, after the config has grown, are others.
    sign = zlib.crc32(repr(list(part)).encode())
    return slug(f"{part[0].method}-{part[0].train_size}-{sign:08x}")


def begun(folder: Path, pending: Sequence[Run], most: int) -> dict[str, list[Run]]:
    """The pending runs by the names of groups that have been begun, those that are furthest first.

    Args:
      folder: the folder of all groups.
      pending: the runs that have not finished, in the order of the plan.
      most: the number of runs that may be trained at once; larger groups are divided anew.
    """
    found: dict[str, list[Run]] = {}
    free = {*pending}
    for name in with_checkpoints(folder):
        labels = _labels(folder / name / "metrics.jsonl")
        part = [run for run in pending if run in free and _label(run) in labels]
        if 0 < len(part) <= most and _name(part) == name:
            found[name] = part
            free -= {*part}
    return found


def with_checkpoints(folder: Path) -> list[str]:
    """The names of the groups in a folder that have a checkpoint, those that are furthest first."""
    steps = collections.Counter[str]()
    for path in sorted(folder.glob("*/checkpoints/*")):
        if path.name.isdecimal():
            steps[path.parts[-3]] = max(steps[path.parts[-3]], int(path.name))
    return [name for name, _ in steps.most_common()]


def _labels(record: Path) -> list[dict[str, Any]]:
    """What tells the runs of a record from each other, by its first lines; [] where it is lost."""
    try:
        _, first = next(itertools.groupby(lines.read(record, is_report), lambda line: line["step"]))
        return [{name: line.get(name) for name in LABELS} for line in first]
    except (ConfigError, StopIteration):
        return []


def group(problem: Problem, runs: Sequence[Run]) -> Group:
    """The group of runs that are trained together."""
    config, size = problem.config, runs[0].train_size
    _, program = problem.task(size)
    members = [Member(problem.objective(run.loss, size), run.seed, size) for run in runs]
    return Group(
        name=f"{runs[0].method}, {amount(size)}",
        labels=[_label(run) for run in runs],
        feed=problem.source.feed(program, members, config["batch_size"]),
        evaluation=problem.evaluation,
        score=problem.experiment.score,
        steps=problem.steps(size),
        steps_per_epoch=problem.steps_per_epoch(size),
        examples=config["batch_size"] * len(runs),
        measured=problem.source.measured,
        rate=networks.rate(config, problem.steps_per_epoch(size)),
        belongs_to=entries.shared(config)
        | {
            "runs": [dataclasses.asdict(run) for run in runs],
            "devices": program.runs_multiple,
            "runs_at_once": "1" if entry_values.runs_at_once(config) == 1 else "several",
        },
    )


def _label(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in LABELS}


def settings(problem: Problem, profile: bool) -> Settings:
    """What else happens during the training."""
    names = ("evaluate_epochs", "checkpoint_steps", "keep_checkpoints", "score_epochs")
    # What is trained again holds nothing out, by which a best one could be found.
    selection = "test" if problem.config["selection"] == "test" else "validation"
    given = {name: problem.config[name] for name in names}
    return Settings(**given, selection=selection, profile=profile)


def _evenly(runs: list[Run], most: int) -> list[list[Run]]:
    """Parts of at most `most` runs, as equal as can be: each size is one compilation."""
    parts = -(-len(runs) // most)
    bounds = [round(i * len(runs) / parts) for i in range(parts + 1)]
    return [runs[a:b] for a, b in itertools.pairwise(bounds)]
