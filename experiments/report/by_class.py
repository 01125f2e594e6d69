"""The accuracy or intersection over union of every class, in percent, averaged over the seeds."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from experiments.report.cells import beside, cell
from experiments.runs.folder import RunFolder
from experiments.runs.records import IOU, class_scores
from experiments.runs.selection import Record, Row

# Shades: a class differs by so many percentage points from the mean over the methods.
STEPS = (0.5, 2.0, 5.0)


def score(folder: RunFolder) -> str:
    """What is told of each class, in words."""
    return "intersection over union" if any(IOU in r for r in folder.records) else "accuracy"


def tables(folder: RunFolder, names: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yields a table for each training size: a line per class, a column per method.

    A line has the class's "name", the "mean" over the methods as text, and its "cells": the "text"
    with the difference from that mean, and the "shade", a name that says how far above or below it
    is. Methods that diverged, and runs of older versions, have no scores by class and are left out.

    Args:
      folder: whose runs.
      names: the classes' names; a class without one goes by its number.
    """
    for size in sorted({row.train_size for row in folder.chosen}):
        columns = {
            row.method: means
            for row in folder.chosen
            if row.train_size == size and (means := _class_means(folder.records, row))
        }
        if columns:
            lines = [
                {"name": names[i] if i < len(names) else str(i), **_line(values)}
                for i, values in enumerate(itertools.zip_longest(*columns.values()))
            ]
            yield {"size": size, "methods": list(columns), "lines": lines}


def _class_means(records: Sequence[Record], row: Row) -> list[float | None]:
    key = (row.method, row.train_size, row.strength)
    mine = [r for r in records if (r["method"], r["train_size"], r["strength"]) == key]
    lists = itertools.zip_longest(*(class_scores(record) for record in mine))
    return [] if row.diverged else [_mean(values) for values in lists]


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [100.0 * value for value in values if value is not None]
    return statistics.fmean(numbers) if numbers else None


def _line(values: Sequence[float | None]) -> dict[str, Any]:
    numbers = [value for value in values if value is not None]
    mean = statistics.fmean(numbers) if numbers else None
    cells = []
    for value in values:
        # As it is shown, so that shade and text agree; + 0.0 makes -0.0 a plain zero.
        difference = 0.0 if value is None or mean is None else round(value - mean, 1) + 0.0
        step = sum(abs(difference) >= bound for bound in STEPS)
        shade = f"{'above' if difference > 0 else 'below'}{step}" if step else ""
        text = beside(value, difference=difference, decimals=1)
        cells.append({"text": text, "shade": shade})
    return {"mean": cell(mean, decimals=1), "cells": cells}
