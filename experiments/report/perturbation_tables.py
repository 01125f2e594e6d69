"""The tables of what networks were tested on, and of their calibration."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from experiments.evaluation.perturbed import Perturbation
from experiments.report import differences, masked_gradients
from experiments.report.cells import Table, beside, cell, minus
from experiments.report.perturbation_scores import (
    Robustness,
    Tested,
    corruption_means,
    corruptions_by_seed,
)
from experiments.runs.records import class_accuracy
from experiments.runs.selection import Record, Row, amount
from experiments.runs.shown import shown

CALIBRATION = ("nll", "ece")


def robust(
    found: Robustness,
    chosen: Sequence[Row],
    records: Sequence[Record],
    config: Mapping[str, Any],
    scored: str = "test",
) -> tuple[list[Table], list[str]]:
    """Returns all tables, and what is to be said of the attacks; nothing where nothing was tested.

    Args:
      found: what was tested.
      chosen: the row of each method and training size.
      records: the finished runs.
      config: the comparison's config.
      scored: the split that was tested.
    """
    if not found.tested:
        return [], []
    sizes = config["train_sizes"]
    every = [*tables(found, list(config["losses"]), sizes, scored)]
    if any(name in row.scores for row in chosen for name in CALIBRATION):
        every += [calibration(chosen, size, scored) for size in sizes]
    classes = max((len(class_accuracy(record)) for record in records), default=0)
    return every, [*masked_gradients.gradients(found, classes)] if classes else []


def tables(
    found: Robustness, methods: Sequence[str], sizes: Sequence[int], scored: str = "test"
) -> Iterator[Table]:
    """Yields a table of every perturbation and, of all corruptions together, one.

    Args:
      found: what was tested.
      methods: the methods' names, in the order of the lines.
      sizes: the training sizes.
      scored: the split that was tested.
    """
    for size in sizes:
        where = f", {amount(size)}" if len(sizes) > 1 else ""
        for name, perturbation in found.named(corruptions=False).items():
            few = _few(perturbation.examples, scored)
            title = f"Accuracy (%) under {name} (`{perturbation.text}`){few}{where}:"
            yield _levels(found, methods, size, name, perturbation, title)
        if found.named(corruptions=True):
            yield _corruptions(found, methods, size, where, scored)


def calibration(chosen: Sequence[Row], size: int, scored: str = "test") -> Table:
    """Returns the calibration on clean images, of the chosen rows that did not diverge.

    Args:
      chosen: the row of each method and training size.
      size: the training size.
      scored: the split that the images are of.
    """
    rows = [row for row in chosen if row.train_size == size and row.mean is not None]
    lines = [(row.method, [_score(row, name) for name in CALIBRATION]) for row in rows]
    columns = ["method", *(shown(name).words for name in CALIBRATION)]
    return Table(f"Calibration on clean {scored} images, {amount(size)}:", columns, lines)


def _score(row: Row, name: str) -> str:
    return cell(*row.scores.get(name, (None, None)), decimals=shown(name).decimals, n=row.n)


def _few(examples: int, scored: str) -> str:
    return f", {examples} {scored} images" if examples else ""


def _levels(
    found: Robustness,
    methods: Sequence[str],
    size: int,
    name: str,
    perturbation: Perturbation,
    title: str,
) -> Table:
    rows = [found.tested.get((size, method, name)) for method in methods]
    paper = [found.published.get((size, method, name)) for method in methods]
    columns: list[tuple[str, list[str]]] = []
    for i in range(len(perturbation.levels)):
        best = differences.best({row.method: row.at(i) for row in rows if row})
        columns.append((perturbation.headings[i], [_cell(row, i, best) for row in rows]))
        if any(row and row.draw_std for row in rows):
            columns.append((f"± over {perturbation.draws} draws (variance)", _drawn(rows, i)))
        theirs = [values[i] if values else None for values in paper]
        if any(value is not None for value in theirs):
            pairs = zip(theirs, rows, strict=True)
            columns.append(("paper", [_beside(value, row, i) for value, row in pairs]))
    lines = [(method, [cells[i] for _, cells in columns]) for i, method in enumerate(methods)]
    return Table(title, ["method", *(column for column, _ in columns)], lines)


def _drawn(rows: Sequence[Tested | None], i: int) -> list[str]:
    """The standard deviation in percent, and the variance of shares, which papers print too."""
    drawn = [row if row and row.draw_std else None for row in rows]
    return [f"{r.draw_std[i]:.2f} ({r.draw_variance[i]:.0e})" if r else "-" for r in drawn]


def _cell(row: Tested | None, i: int, best: Collection[str]) -> str:
    if row is None:
        return "-"
    # It would be the same at every level.
    n = row.n if i == 0 else None
    return cell(row.mean[i], row.std[i] if row.std else None, bold=row.method in best, n=n)


def _beside(value: float | None, row: Tested | None, i: int) -> str:
    difference = minus(row.mean[i] if row else None, value)
    return beside(value, difference=difference, decimals=1)


def _corruptions(
    found: Robustness, methods: Sequence[str], size: int, where: str, scored: str
) -> Table:
    """The mean over the severities of each corruption, and the mean of all."""
    rows = corruption_means(found, methods, size)
    each = corruptions_by_seed(found, methods, size)
    best = {name: differences.best({m: v for m, v in each[name].items() if v}) for name in rows}
    lines = [
        (name, [cell(x, bold=m in best[name]) for m, x in zip(methods, means, strict=True)])
        for name, means in rows.items()
    ]
    images = {p.examples for p in found.named(corruptions=True).values()} - {0}
    few = _few(min(images, default=0), scored)
    n = {t.n for (at, _, name), t in found.tested.items() if at == size and name in rows}
    seeds = " to ".join(str(each) for each in sorted({min(n, default=0), max(n, default=0)}))
    over = f"mean over severities and {seeds} seed{'s' * (seeds != '1')}"
    title = f"Accuracy (%) under corruptions, {over}{few}{where}:"
    return Table(title, ["corruption", *methods], lines)
