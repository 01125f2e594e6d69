"""The standard error of the area under the ROC curve, of two classes.

No comparison has it unless it names it in `config.metrics` or `config.columns`.
"""

from __future__ import annotations

import numpy as np

from experiments.evaluation.metrics import Rows, Value, metric


@metric(
    needs=("label", "probabilities"),
    words="its standard error (%)",
    percent=True,
    decimals=2,
    larger_is_better=False,
)
def auc_error(rows: Rows) -> Value:
    """The standard error of `auc` over test examples, without a distribution, for two classes.

    `sqrt(var(V) / m + var(W) / n)`, sample variances over the m examples of class 1 and the n of
    class 0, where V is the share of the n that score below an example (ties half) and W the share
    of the m above. See "Comparing the areas under two or more correlated receiver operating
    characteristic curves" (DeLong, DeLong and Clarke-Pearson, 1988).

    Returns:
      In units of the area; NaN where a probability is, and None for more classes than two or fewer
      than two examples of one.
    """
    label, probabilities = rows["label"], rows["probabilities"]
    if np.isnan(probabilities).any():
        return float("nan")
    high, low = (np.sort(probabilities[label == c, -1]) for c in (1, 0))
    if probabilities.shape[1] != 2 or min(len(high), len(low)) < 2:
        return None
    return float(np.sqrt(_share(high, low) + _share(low, high)))


def _share(mine: np.ndarray, others: np.ndarray) -> float:
    """The variance of the mean share of the sorted others that are below, which is that above."""
    twice = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
    below = twice / (2 * len(others))
    return float(np.var(below, ddof=1, dtype=np.float64) / len(mine))
