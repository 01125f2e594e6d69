"""Two samples of a score against each other: an interval of their difference, and a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
# So many values a sample take the bootstrap, which covers too little of fewer (of 30: 93 %).
MANY = 100


def p_value(ours: np.ndarray, theirs: np.ndarray, paired: bool) -> np.ndarray:
    """The two-sided p-value of Student's t-test of equal means, along the last axis.

    Args:
      ours: `[..., n]`, n at least 2.
      theirs: `[..., m]`; where paired, m is n.
      paired: whether values at the same place belong together; Welch's test where they do not.

    Returns:
      `[...]`.

    Example:
      p_value(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.6, 2.4]), paired=True)
    """
    return _t_test(ours, theirs, paired).pvalue


def interval(ours: np.ndarray, theirs: np.ndarray, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the difference of the means, along the last axis.

    Student's t on the differences of the pairs, or Welch's on two samples; from `MANY` values on
    the bias-corrected and accelerated bootstrap. See "Better Bootstrap Confidence Intervals"
    (Efron, 1987). Its draws are always the same.

    Args:
      ours: `[..., n]`, n at least 2.
      theirs: `[..., m]`; where paired, m is n.
      paired: whether values at the same place belong together.

    Returns:
      The lower and the upper end, each `[...]`, in the unit of the values.

    Example:
      low, high = interval(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.6, 2.4]), paired=True)
    """
    if is_many(ours, theirs):
        found = _bootstrap(ours, theirs, paired)
    else:
        found = _t_test(ours, theirs, paired).confidence_interval(LEVEL)
    return found.low, found.high


def is_many(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether the interval is by bootstrap."""
    return min(ours.shape[-1], theirs.shape[-1]) >= MANY


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family of tests, corrected so that 5 % of families have a false finding.

    The i-th smallest of k is multiplied with k - i + 1, and none falls below a smaller one. See "A
    Simple Sequentially Rejective Multiple Test Procedure" (Holm, 1979).

    Args:
      p: one of each test.

    Returns:
      In the same order, at most 1.

    Example:
      assert holm([0.04, 0.01]) == [0.04, 0.02]
    """
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def _t_test(ours: np.ndarray, theirs: np.ndarray, paired: bool) -> Any:
    if paired:
        return stats.ttest_rel(ours, theirs, axis=-1)
    return stats.ttest_ind(ours, theirs, axis=-1, equal_var=False)


def _bootstrap(ours: np.ndarray, theirs: np.ndarray, paired: bool) -> Any:
    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return x.mean(axis) - y.mean(axis)

    data, statistic = ((ours - theirs,), np.mean) if paired else ((ours, theirs), difference)
    options = {"axis": -1, "confidence_level": LEVEL, "batch": 100, "rng": 0}
    return stats.bootstrap(data, statistic, **options).confidence_interval
