"""Two phases in words and a table: the runs that chose the strengths, and those trained again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.report.cells import Table, cell
from experiments.runs import retraining
from experiments.runs.folder import RunFolder
from experiments.runs.selection import Row, amount
from experiments.runs.shown import shown

Config = Mapping[str, Any]


def words(config: Config, first: RunFolder | None, finished: int) -> str:
    """What the runs are, and how many of each phase have finished; "" where there is one phase.

    Args:
      config: of the comparison.
      first: the folder of the runs that choose the strengths, if it has been begun.
      finished: the number of runs that were trained again, or had no strength to be chosen.
    """
    if retraining.first(config) is None:
        return ""
    held, planned = config.get("validation_per_class"), again(config)
    done = f"{len(first.records)} of {len(first.planned)}" if first else "none"
    return (
        f"Runs are of two phases. Strengths are chosen by the mean over the seeds on {held} "
        f"training images per class that are held out: {done} of these runs finished, in the "
        f"folder {retraining.FOLDER!r}. Then each method is trained at its strength on all "
        f"training images, those too, with every seed: {finished} of {planned} runs finished, and "
        "they alone stand in the tables of results."
    )


def again(config: Config) -> int:
    """The number of runs of the second phase, in which each method has one strength."""
    count: int = len(config["losses"]) * len(config["train_sizes"]) * config["seeds"]
    return count


def table(config: Config, first: RunFolder) -> Table:
    """The held-out score by strength, the chosen ones in bold.

    Args:
      config: of the comparison.
      first: the folder of the runs that choose the strengths.
    """
    score, sizes, strengths = first.about.score, config["train_sizes"], first.strengths
    rows = {(row.method, row.train_size, row.strength): row for row in first.rows}

    def at(method: str, size: int, strength: float) -> str:
        best = strengths.get((method, size)) == strength
        return _cell(rows.get((method, size, strength)), score, best)

    lines = [
        (f"{method} at {strength:g}", [at(method, size, float(strength)) for size in sizes])
        for method in first.config["losses"]
        for strength in first.config["strengths"].get(method, ())
    ]
    title = f"Held-out {shown(score).words} by strength, mean over n seeds, the chosen in bold."
    return Table(title, ["method", *(amount(size) for size in sizes)], lines)


def results(config: Config, first: RunFolder | None, finished: int) -> dict[str, Any]:
    """What results.json has of both phases; nothing where there is one."""
    if retraining.first(config) is None:
        return {}
    return {
        "phases": {
            "selection": {
                "finished": len(first.records) if first else 0,
                "planned": len(first.planned) if first else None,
            },
            "retrain": {"finished": finished, "planned": again(config)},
        },
        "selection_strengths": [dataclasses.asdict(row) for row in first.rows] if first else [],
    }


def _cell(row: Row | None, score: str, best: bool) -> str:
    if row is None:
        return "-"
    if row.diverged:
        return f"diverged ({row.diverged} of {row.n})"
    return cell(row.validation, decimals=shown(score).decimals, bold=best, n=row.n)
