"""Which runs are trained together, and how."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from experiments.runs import entries, networks
from experiments.runs.plan import Run
from experiments.runs.problem import Problem
from experiments.runs.selection import amount
from experiments.training.feeds import Member
from experiments.training.group import Group, Settings
from experiments.training.record import slug


def groups(
    problem: Problem, runs: Sequence[Run], pending: Collection[Run]
) -> Iterator[tuple[str, Group]]:
    """The pending runs that are trained together, with a name for each such group's folder.

    All runs are divided, so that an interruption does not divide them in another way.
    """
    alike = itertools.groupby(runs, lambda run: (run.method, run.train_size))
    for (method, size), some in alike:
        for together in _evenly(list(some), entries.runs_at_once(problem.config)):
            part = [run for run in together if run in pending]
            if not part:
                continue
            # Groups of other runs, after the config has grown, are others.
            sign = zlib.crc32(repr(part).encode())
            yield slug(f"{method}-{size}-{sign:08x}"), group(problem, part)


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
        rate=networks.rate(config, problem.steps_per_epoch(size)),
        belongs_to=entries.shared(config)
        | {
            "runs": [dataclasses.asdict(run) for run in runs],
            "devices": program.runs_multiple,
            "runs_at_once": "1" if entries.runs_at_once(config) == 1 else "several",
        },
    )


def _label(run: Run) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(run).items() if name != "loss"}


def settings(problem: Problem, profile: bool) -> Settings:
    """What else happens during the training."""
    names = ("evaluate_epochs", "checkpoint_steps", "keep_checkpoints", "selection")
    return Settings(**{name: problem.config[name] for name in names}, profile=profile)


def _evenly(runs: list[Run], most: int) -> list[list[Run]]:
    """Parts of at most `most` runs, as equal as can be: each size is one compilation."""
    parts = -(-len(runs) // most)
    bounds = [round(i * len(runs) / parts) for i in range(parts + 1)]
    return [runs[a:b] for a, b in itertools.pairwise(bounds)]
