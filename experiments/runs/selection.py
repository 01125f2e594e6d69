"""From runs to rows: the seeds gathered, and one strength chosen per method and training size.

A record is one finished run, a dict with "method", "loss" (its expression), "train_size" (examples
per class, 0 for all), "strength" (None where the method has none), "seed", "train_loss",
"test_nll", "test_ece", "test_accuracy" in [0, 1], and "validation_accuracy" in [0, 1] or None where
nothing was held out. A run with another score that is None, or any that is not finite, has
diverged.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

SCORES = ("train_loss", "test_nll", "test_ece", "test_accuracy", "validation_accuracy")

SELECTIONS = {
    "validation": "the best mean accuracy on held-out training images",
    "test": "the best mean accuracy on the test images themselves, which is optimistic",
}


def amount(size: int, noun: str = "") -> str:
    """A training size in words, such as "5 per class"; 0 stands for all images."""
    return f"{size} {noun}per class" if size else "all images"


@dataclasses.dataclass(frozen=True)
class Row:
    """One method at one training size and strength, over its seeds.

    Attributes:
      method: the method's name.
      train_size: training examples per class, 0 for all.
      strength: the number that the comparison varies, or None where the method has none.
      loss: the loss as an expression.
      n: the number of runs, one a seed.
      diverged: how many of them ended with a loss or an accuracy that is not finite.
      mean: mean test accuracy in percent; None if a run diverged.
      std: its sample standard deviation (ddof=1) in percent; None if n is 1 or a run diverged.
      validation: mean accuracy on held-out training examples in percent; None if a run diverged or
        held nothing out.
    """

    method: str
    train_size: int
    strength: float | None
    loss: str
    n: int
    diverged: int
    mean: float | None
    std: float | None
    validation: float | None


def summarize(records: Iterable[Record]) -> list[Row]:
    """Gathers runs that differ by their seed only: one row per method, training size and strength.

    Methods come in the order in which they first appear, sizes and strengths from small to large.
    """
    groups: dict[tuple[str, int, float | None], list[Record]] = {}
    order: dict[str, int] = {}
    for record in records:
        order.setdefault(record["method"], len(order))
        key = (record["method"], record["train_size"], record["strength"])
        groups.setdefault(key, []).append(record)
    rows = [_row(runs) for runs in groups.values()]
    return sorted(
        rows, key=lambda r: (order[r.method], r.train_size or math.inf, r.strength or 0.0)
    )


def select(records: Iterable[Record], selection: str) -> list[Row]:
    """Chooses the strength of each method and training size.

    Only strengths whose runs all stayed finite compete, and of those the ones with the most seeds,
    so that a strength which an interrupted comparison tried once does not win by luck. Ties go to
    the smaller strength. Where every strength diverged, the row with the fewest diverged runs
    stands, without a mean.

    Args:
      records: the finished runs.
      selection: "validation" or "test", see `SELECTIONS`.

    Returns:
      One row per method and training size.

    Raises:
      ValueError: if `selection` is unknown, or asks for accuracies on held-out examples that the
        records do not have.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"The selection is {selection!r}; it can be one of {list(SELECTIONS)}.")
    cells: dict[tuple[str, int], list[Row]] = {}
    for row in summarize(records):
        cells.setdefault((row.method, row.train_size), []).append(row)
    return [_best(rows, selection) for rows in cells.values()]


def _best(rows: Sequence[Row], selection: str) -> Row:
    sound = [row for row in rows if not row.diverged]
    if not sound:
        return min(rows, key=lambda row: row.diverged)
    most = max(row.n for row in sound)
    # Rows are sorted by strength and max returns the first of equals: the smaller strength.
    return max((row for row in sound if row.n == most), key=lambda row: _score(row, selection))


def _score(row: Row, selection: str) -> float:
    score = row.mean if selection == "test" else row.validation
    if score is None:
        raise ValueError(
            f"selection='validation' needs the validation accuracy of every run, and a run of "
            f"{row.method} has none: set validation_per_class, or selection='test'."
        )
    return score


def _row(runs: Sequence[Record]) -> Row:
    diverged = sum(_diverged(run) for run in runs)
    test = [] if diverged else [100.0 * run["test_accuracy"] for run in runs]
    held_out = [run["validation_accuracy"] for run in runs]
    return Row(
        method=runs[0]["method"],
        train_size=runs[0]["train_size"],
        strength=runs[0]["strength"],
        loss=runs[0]["loss"],
        n=len(runs),
        diverged=diverged,
        mean=None if diverged else statistics.fmean(test),
        std=None if diverged or len(runs) == 1 else statistics.stdev(test),
        validation=None if diverged or None in held_out else 100.0 * statistics.fmean(held_out),
    )


def _diverged(run: Record) -> bool:
    # The accuracy alone does not tell: argmax of NaNs is a class, and so scores about 1 in C.
    scores = {name: run[name] for name in SCORES}
    if scores["validation_accuracy"] is None:
        del scores["validation_accuracy"]
    broken = run.get("diverged") is not None  # it may have recovered, but not soundly
    return broken or any(v is None or not math.isfinite(v) for v in scores.values())
