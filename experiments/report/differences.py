"""Methods against each other, seed by seed: to the baseline, and to the best of them.

Runs of one seed share their images and their first network, whatever the loss. So two methods
differ by the mean of their differences at the seeds that both have, and what all methods owe to a
seed drops out. Methods that share fewer than two seeds are two samples.

The baseline is the method called "baseline"; where none is, of the methods without a strength the
one of the fewest stages, the first of equals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.report.intervals import holm, interval, is_many, p_value
from experiments.report.scoring import Scoring
from experiments.runs.plan import PLACEHOLDER
from experiments.runs.selection import Record, Row
from experiments.runs.shown import shown

BASELINE = "baseline"
ALPHA = 0.05

Values = Mapping[int, float]  # a score by seed, as it is shown


@dataclasses.dataclass(frozen=True)
class Difference:
    """A method's mean score minus another's, at one training size.

    Attributes:
      n: the number of seeds that both have; of the fewer seeds where it is not paired.
      paired: whether it is the mean of the differences at the same seeds.
      mean: as the score is shown: in percentage points where that is a percentage.
      low: the lower end of the 95 % interval, for this method alone; None where n is 1, or where
        the differences (or the scores of one of two samples) are all equal, which says
        nothing of their spread.
      high: the upper end.
      p: of Student's t-test (where not paired, Welch's) that it is 0; None likewise.
      holm: p with Holm's correction for all methods at that training size that have one.
      bootstrap: whether the interval is by bootstrap.
    """

    n: int
    paired: bool
    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    holm: float | None = None
    bootstrap: bool = False

    @property
    def is_told(self) -> bool:
        """Whether it is told from 0 at 5 %, after Holm's correction."""
        return self.holm is not None and self.holm < ALPHA


@dataclasses.dataclass(frozen=True)
class Compared:
    """The methods of a comparison against each other.

    Attributes:
      baseline: the name of the baseline; None where each method has a strength.
      differences: of the main score to the baseline's, by method and training size.
      best: by score and training size the methods whose means are bold, see `best`.
    """

    baseline: str | None
    differences: Mapping[tuple[str, int], Difference]
    best: Mapping[tuple[str, int], frozenset[str]]


def gather(
    config: Mapping[str, Any], chosen: Sequence[Row], records: Sequence[Record], scoring: Scoring
) -> Compared:
    """Returns the methods against each other, each at its chosen strength.

    Args:
      config: the comparison's.
      chosen: a row of each method and training size.
      records: the finished runs.
      scoring: names the scores.
    """
    plain = baseline({m: t for m, t in config["losses"].items() if PLACEHOLDER not in t})
    differences: dict[tuple[str, int], Difference] = {}
    leading = {}
    for size in dict.fromkeys(row.train_size for row in chosen):
        rows = [row for row in chosen if row.train_size == size]
        for score in (scoring.score, *scoring.others):
            values = {row.method: _by_seed(row, records, score) for row in rows}
            values = {method: mine for method, mine in values.items() if mine}
            leading[score, size] = best(values, shown(score).larger_is_better)
            if score == scoring.score and plain in values:
                found = against(values, plain)
                differences |= {(method, size): each for method, each in found.items()}
    return Compared(plain, differences, leading)


def baseline(losses: Mapping[str, str]) -> str | None:
    """Returns the baseline among the losses, by name, of methods without a strength."""
    if BASELINE in losses:
        return BASELINE
    return min(losses, key=lambda method: losses[method].count("|"), default=None)


def against(values: Mapping[str, Values], reference: str) -> dict[str, Difference]:
    """Returns the difference of every other method to one of them.

    Args:
      values: of every method a score by seed, at least one.
      reference: the method that is subtracted.
    """
    others = [method for method in values if method != reference]
    found = {method: _difference(values[method], values[reference]) for method in others}
    tested = {method: each.p for method, each in found.items() if each.p is not None}
    corrected = dict(zip(tested, holm([*tested.values()]), strict=True))
    return {
        method: dataclasses.replace(each, holm=corrected.get(method))
        for method, each in found.items()
    }


def best(values: Mapping[str, Values], larger_is_better: bool = True) -> frozenset[str]:
    """Returns the methods of the best mean, and all that are tested and not told from it.

    A method that is truly the best is among them in at least 95 % of comparisons: it is missing
    only where another one is told to be better, of which each has its share of the 5 %.

    Args:
      values: of every method a score by seed, at least one.
      larger_is_better: whether the best mean is the largest one.
    """
    if not values:
        return frozenset()
    means = {method: float(np.mean([*mine.values()])) for method, mine in values.items()}
    leader = (max if larger_is_better else min)(means, key=means.__getitem__)
    close = against(values, leader)
    level = {method for method, each in close.items() if each.holm is not None and not each.is_told}
    return frozenset({m for m, mean in means.items() if mean == means[leader]} | level)


def _by_seed(row: Row, records: Sequence[Record], score: str) -> Values:
    """The score of each of a row's runs; none where the row has no mean."""
    if row.scores.get(score, (None, None))[0] is None:
        return {}
    names, scale = ("method", "train_size", "strength"), shown(score).scale
    mine = (r for r in records if all(r[name] == getattr(row, name) for name in names))
    return {record["seed"]: scale * record[f"test_{score}"] for record in mine}


def _difference(ours: Values, theirs: Values) -> Difference:
    shared = [seed for seed in ours if seed in theirs]
    paired = len(shared) > 1 or min(len(ours), len(theirs)) == len(shared)
    seeds = (shared, shared) if paired else (list(ours), list(theirs))
    x, y = (np.array([v[s] for s in each]) for v, each in zip((ours, theirs), seeds, strict=True))
    plain = Difference(min(len(x), len(y)), paired, float(x.mean() - y.mean()))
    if not _vary(x, y, paired):
        return plain
    low, high = interval(x, y, paired)
    return dataclasses.replace(
        plain,
        low=float(low),
        high=float(high),
        p=float(p_value(x, y, paired)),
        bootstrap=is_many(x, y),
    )


def _vary(x: np.ndarray, y: np.ndarray, paired: bool) -> bool:
    """Whether there are enough values that differ by more than their rounding."""
    if min(len(x), len(y)) < 2:
        return False
    spread = np.ptp(x - y) if paired else min(np.ptp(x), np.ptp(y))
    return bool(spread > 1e-6 * max(np.abs(x).max(), np.abs(y).max()))
