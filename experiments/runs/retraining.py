"""Strengths that are chosen without some of the training images, and trained again with all.

Runs of `config.selection = "retrain"` are of two phases. The first is a comparison of its own, in
the folder `FOLDER` of the work folder: of each method with several strengths all of them, without
the images that are held out. The second is the work folder's: of each method its chosen strength,
or the only one, on all training images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.runs.plan import Run
from experiments.runs.records import run_of
from experiments.runs.selection import Record, select

Config = Mapping[str, Any]
Cell = tuple[str, int]  # a method and a training size

FOLDER = "selection"


def first(config: Config) -> dict[str, Any] | None:
    """The config of the first phase; None where there is none.

    Args:
      config: of the comparison; older ones lack entries.
    """
    given = {name: config["strengths"].get(name, ()) for name in config["losses"]}
    several = [name for name, some in given.items() if len(some) > 1]
    if config["selection"] != "retrain" or not several:
        return None
    return {
        **config,
        "selection": "validation",
        "validation_included": True,
        "losses": {name: config["losses"][name] for name in several},
        "strengths": {name: given[name] for name in several},
        "perturbations": {},
        "published": {},
        "published_robustness": {},
    }


def chosen(runs: Iterable[Run], records: Sequence[Record], score: str) -> dict[Cell, float | None]:
    """The chosen strength of each method and training size of which all runs have finished.

    Args:
      runs: of the first phase.
      records: those of them that have finished.
      score: the name of the main score.
    """
    finished = {run_of(record) for record in records}
    unfinished = {(run.method, run.train_size) for run in runs if run not in finished}
    rows = {(row.method, row.train_size): row for row in select(records, "validation", score)}
    return {cell: row.strength for cell, row in rows.items() if cell not in unfinished}


def second(runs: Sequence[Run], strengths: Mapping[Cell, float | None]) -> list[Run]:
    """The runs of the second phase.

    Args:
      runs: of all strengths.
      strengths: those that are chosen; of a method that has several and is missing here, runs
        without a loss and a strength stand for those that will be trained.
    """
    several: dict[Cell, set[float | None]] = {}
    for run in runs:
        several.setdefault((run.method, run.train_size), set()).add(run.strength)

    def again(run: Run) -> Run | None:
        cell = (run.method, run.train_size)
        if len(several[cell]) == 1 or strengths.get(cell) == run.strength:
            return run
        return None if cell in strengths else dataclasses.replace(run, loss="", strength=None)

    return list(dict.fromkeys(run for run in map(again, runs) if run is not None))
