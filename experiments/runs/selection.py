"""From runs to rows: the seeds gathered, and one strength chosen per method and training size.

A record is one finished run, a dict with "method", "loss" (its expression), "train_size" (examples
per class, 0 for all), "strength" (None where the method has none), "seed", "train_loss", and scores
"test_..." and "validation_...", None where one is not finite or nothing was held out. One of the
scores is the main one, by which strengths are chosen.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.runs.shown import shown

Record = Mapping[str, Any]

SELECTIONS = {
    "validation": "the best mean {score} on held-out training images",
    "test": "the best mean {score} on the {scored} images themselves, which is optimistic",
    "retrain": "the best mean {score} on held-out training images, and trained again with them",
}
VALIDATION_SPLIT = "the best mean {score} on the validation images"
# Not finite where a network's answers are not, of which other scores do not tell.
WITNESSES = ("test_nll", "test_ece")

Spread = tuple[float | None, float | None]


def rule(
    selection: str, score: str = "accuracy", scored: str = "test", held_out: bool = True
) -> str:
    """What a strength is chosen for, in words.

    Args:
      selection: one of `SELECTIONS`.
      score: the name of the main score.
      scored: the split that "test_..." is of.
      held_out: whether "validation" is of training images, and not of a split of its own.
    """
    name = shown(score).name.removeprefix("mean ")  # "the best mean" stands before it
    own = selection == "validation" and not held_out
    text = VALIDATION_SPLIT if own else SELECTIONS[selection]
    return text.format(score=name, scored=scored)


def amount(size: int, noun: str = "") -> str:
    """A training size in words, such as "5 per class"; 0 stands for all images."""
    return f"{size} {noun}per class" if size else "all images"


@dataclasses.dataclass(frozen=True)
class Row:
    """One method at one training size and strength, over its seeds.

    Scores are as they are shown: those that `shown` says are percentages, times 100.

    Attributes:
      method: the method's name.
      train_size: the number of training examples per class, 0 for all.
      strength: the number that the comparison varies, or None where the method has none.
      loss: the loss as an expression.
      n: the number of runs, one a seed.
      diverged: the number of runs that ended with a loss or a main score that is not finite.
      mean: the mean of the main score; None if a run diverged.
      std: its sample standard deviation (ddof=1); None if n is 1 or a run diverged.
      validation: the mean of the main score on held-out training examples; None if a run diverged
        or held nothing out.
      scores: the mean of every score that was recorded and the standard deviation, by its name
        without "test_"; None where a run diverged or lacks it.
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
    scores: Mapping[str, Spread]


def summarize(records: Iterable[Record], score: str = "accuracy") -> list[Row]:
    """Gathers runs that differ by their seed only: one row per method, training size and strength.

    Methods come in the order in which they first appear, sizes and strengths from small to large.

    Args:
      records: the finished runs.
      score: the name of the main score.
    """
    groups: dict[tuple[str, int, float | None], list[Record]] = {}
    order: dict[str, int] = {}
    for record in records:
        order.setdefault(record["method"], len(order))
        key = (record["method"], record["train_size"], record["strength"])
        groups.setdefault(key, []).append(record)
    rows = [_row(runs, score) for runs in groups.values()]
    return sorted(
        rows, key=lambda r: (order[r.method], r.train_size or math.inf, r.strength or 0.0)
    )


def select(records: Iterable[Record], selection: str, score: str = "accuracy") -> list[Row]:
    """Chooses the strength of each method and training size.

    Only strengths whose runs all stayed finite compete, and of those the ones with the most seeds,
    so that a strength which an interrupted comparison tried once does not win by luck. Ties go to
    the smaller strength. Where every strength diverged, the row with the fewest diverged runs
    stands, without a mean.

    Args:
      records: the finished runs.
      selection: one of `SELECTIONS`. "retrain" is of runs whose strength was chosen before.
      score: the name of the main score.

    Returns:
      One row per method and training size.

    Raises:
      ValueError: if `selection` is unknown, or asks for scores on held-out examples that the
        records do not have.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"The selection is {selection!r}; it can be one of {list(SELECTIONS)}.")
    cells: dict[tuple[str, int], list[Row]] = {}
    for row in summarize(records, score):
        cells.setdefault((row.method, row.train_size), []).append(row)
    return [_best(rows, selection, score) for rows in cells.values()]


def is_diverged(run: Record, score: str = "accuracy") -> bool:
    """Whether a run's loss or main score is not finite, or was not at some step of its training."""
    # An accuracy alone does not tell: argmax of NaNs is a class, and so scores about 1 in C.
    values = [run[name] for name in WITNESSES if name in run]
    values += [run.get("train_loss"), run.get(f"test_{score}")]
    held_out = run.get(f"validation_{score}")  # None where nothing was
    values += [] if held_out is None else [held_out]
    broken = run.get("diverged") is not None  # it may have recovered, but not soundly
    return broken or not all(map(_is_finite, values))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _best(rows: Sequence[Row], selection: str, score: str) -> Row:
    sound = [row for row in rows if not row.diverged]
    if not sound:
        return min(rows, key=lambda row: row.diverged)
    most = max(row.n for row in sound)
    if len(rows) == 1:  # nothing to choose
        return rows[0]
    sign = 1 if shown(score).larger_is_better else -1
    # Rows are sorted by strength and max returns the first of equals: the smaller strength.
    return max(
        (row for row in sound if row.n == most),
        key=lambda row: sign * _score(row, selection, score),
    )


def _score(row: Row, selection: str, score: str) -> float:
    value = row.mean if selection == "test" else row.validation
    if value is None:
        raise ValueError(
            f"selection='validation' needs the validation {shown(score).name} of every run, and a "
            f"run of {row.method} has none: set validation_per_class, or selection='test'."
        )
    return value


def _row(runs: Sequence[Record], score: str) -> Row:
    diverged = sum(is_diverged(run, score) for run in runs)
    sound = [] if diverged else runs
    names = (name for run in runs for name in run if name.startswith("test_"))
    scores = {
        name.removeprefix("test_"): _spread(sound, name)
        for name in dict.fromkeys(names)
        if not any(isinstance(run.get(name), list) for run in runs)
    }
    mean, std = scores.get(score, (None, None))
    held_out = [run.get(f"validation_{score}") for run in sound]
    return Row(
        method=runs[0]["method"],
        train_size=runs[0]["train_size"],
        strength=runs[0]["strength"],
        loss=runs[0]["loss"],
        n=len(runs),
        diverged=diverged,
        mean=mean,
        std=std,
        validation=_mean(held_out, shown(score).scale),
        scores=scores,
    )


def _spread(runs: Sequence[Record], name: str) -> Spread:
    """The mean and the standard deviation, as they are shown."""
    scale, values = shown(name.removeprefix("test_")).scale, [run.get(name) for run in runs]
    if not runs or not all(map(_is_finite, values)):
        return None, None
    scaled = [scale * float(value) for value in values if value is not None]
    return statistics.fmean(scaled), statistics.stdev(scaled) if len(runs) > 1 else None


def _mean(values: Sequence[float | None], scale: float) -> float | None:
    known = [value for value in values if value is not None]
    # Scaled at the end: what is equal stays so, and ties go to the smaller strength.
    return scale * statistics.fmean(known) if values and len(known) == len(values) else None
