"""Tables by class of what is right without being sure, on the scored images and on other data sets.

In the layout of "Signed Input Regularization" (Taghanaki et al., 2019), tables 2 and 3: of each
method the accuracy, then the mean probability, the number and the mean uncertainty of the images
whose class is predicted with a probability of a half or less.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.report.cells import Table
from experiments.report.perturbation_scores import NAMES, Robustness
from experiments.runs.selection import Record, Row, amount

Unsure = tuple[float | None, float, float | None]  # mean probability, number, mean uncertainty
NOTHING = "N/A"


def tables(
    found: Robustness,
    chosen: Sequence[Row],
    records: Sequence[Record],
    tested: Sequence[Record],
    names: Sequence[str] = (),
    scored: str = "test",
) -> list[Table]:
    """Returns the tables of each training size; none where nothing of it was measured.

    Args:
      found: what was tested.
      chosen: the row of each method and training size.
      records: the finished runs.
      tested: the records of robustness.jsonl.
      names: the classes' names; a class without one goes by its number.
      scored: the split that was tested.
    """
    return [*_tables(found, chosen, records, tested, names, scored)]


def _tables(
    found: Robustness,
    chosen: Sequence[Row],
    records: Sequence[Record],
    tested: Sequence[Record],
    names: Sequence[str],
    scored: str,
) -> Iterator[Table]:
    for size in dict.fromkeys(row.train_size for row in chosen):
        rows = [row for row in chosen if row.train_size == size and not row.diverged]
        clean = {row.method: [_clean(r) for r in _of(row, records)] for row in rows}
        yield from _table(f"clean {scored} images, {amount(size)}", clean, names)
        for name, perturbation in found.perturbations.items():
            mine = [r for r in tested if r["text"] == perturbation.text]
            other = {row.method: [_first_level(r) for r in _of(row, mine)] for row in rows}
            yield from _table(f"{name}, {amount(size)}", other, names)


def _of(row: Row, records: Sequence[Record]) -> list[Record]:
    mine = [r for r in records if all(r.get(n) == getattr(row, n) for n in NAMES)]
    return list({r["seed"]: r for r in mine}.values())


def _clean(record: Record) -> dict[str, Any]:
    return {n.removeprefix("test_"): x for n, x in record.items() if n.startswith("test_")}


def _first_level(record: Record) -> dict[str, Any]:
    return {n: x[0] for n, x in record.items() if isinstance(x, list) and x}


def _table(
    where: str, scores: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]
) -> Iterator[Table]:
    """The table of the methods of which it was measured; classes that do not occur are left out."""
    wanted = ("unsure_by_class", "class_accuracy", "class_count")
    full = {
        m: runs for m, runs in scores.items() if runs and all(w in r for r in runs for w in wanted)
    }
    if not full:
        return
    counts = next(iter(full.values()))[0]["class_count"]
    classes = [c for c, count in enumerate(counts) if count]
    heads = [f"{names[c] if c < len(names) else c} ({counts[c]})" for c in classes]
    lines = [line for method, runs in full.items() for line in _lines(method, runs, classes)]
    title = (
        f"Accuracy (%) by class, and of the images that are right at p ≤ 0.5 the mean p (their "
        f"number) [their mean uncertainty], over the seeds; {where}:"
    )
    yield Table(title, ["method", "", *heads, f"all ({sum(counts)})"], lines)


def _lines(
    method: str, runs: Sequence[Mapping[str, Any]], classes: Sequence[int]
) -> Iterator[tuple[str, list[str]]]:
    accuracy = [statistics.fmean(100 * r["class_accuracy"][c] for r in runs) for c in classes]
    accuracy.append(statistics.fmean(100 * r["accuracy"] for r in runs))
    yield method, ["accuracy", *(f"{value:.1f}" for value in accuracy)]
    each = [[tuple(r["unsure_by_class"][c]) for r in runs] for c in classes]
    every = [tuple(one) for r in runs for one in r["unsure_by_class"]]
    cells = [*map(_pooled, each), _pooled(every, len(runs))]
    yield "", ["p ≤ 0.5 (images) [uncertainty]", *cells]


def _pooled(several: Sequence[Unsure], runs: int = 0) -> str:
    """Means over all images of several runs or classes, and how many they are in one run."""
    count = sum(number for _, number, _ in several)
    if not count:
        return f"{NOTHING} (0)"
    some = [each for each in several if each[1]]
    p = sum((mean or 0.0) * number for mean, number, _ in some) / count
    uncertainty = sum((mean or 0.0) * number for _, number, mean in some) / count
    return f"{p:.3f} ({count / (runs or len(several)):.4g}) [{uncertainty:.3g}]"
