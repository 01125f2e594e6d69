"""Metrics of what is right without being sure: the class's probability is a half or less.

See "Signed Input Regularization" (Taghanaki et al., 2019), tables 2 and 3, rows "p <= 0.5". They
need "probability", that of an example's class, and "uncertainty", the entropy of the probabilities
or what `config.uncertainty` makes of a second head. No comparison has them unless it names them in
`config.metrics` or `config.columns`.
"""

from __future__ import annotations

import numpy as np

from experiments.evaluation.metrics import Rows, Value, metric

LIMIT = 0.5


def _chosen(rows: Rows) -> np.ndarray:
    return (rows["label"] == rows["prediction"]) & (rows["probability"] <= LIMIT)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None


@metric(
    needs=("label", "prediction", "probability"),
    words="right at p ≤ 0.5 (images)",
    decimals=1,
    larger_is_better=False,
)
def unsure_count(rows: Rows) -> Value:
    """How many examples are rightly predicted whose class has a probability of a half or less."""
    return float(_chosen(rows).sum())


@metric(needs=("label", "prediction", "probability"), words="their mean p", decimals=4)
def unsure_probability(rows: Rows) -> Value:
    """The mean probability of the class of those examples; None where there are none."""
    return _mean(rows["probability"][_chosen(rows)])


@metric(
    needs=("label", "prediction", "probability", "uncertainty"),
    words="their mean uncertainty",
    decimals=4,
)
def unsure_uncertainty(rows: Rows) -> Value:
    """The mean uncertainty of those examples; None where there are none."""
    return _mean(rows["uncertainty"][_chosen(rows)])


@metric(
    needs=("label", "prediction", "probability", "uncertainty", "classes"),
    words="right at p ≤ 0.5 by class: mean p, images, mean uncertainty",
    decimals=4,
    larger_is_better=None,
)
def unsure_by_class(rows: Rows) -> Value:
    """The same three numbers of each class, `[C, 3]`; means are None where there is no example."""
    chosen, label = _chosen(rows), rows["label"]
    classes = max(int(rows["classes"]), int(label.max()) + 1)
    places = [chosen & (label == c) for c in range(classes)]
    return [
        [_mean(rows["probability"][of]), int(of.sum()), _mean(rows["uncertainty"][of])]
        for of in places
    ]


@metric(needs=("label", "prediction", "probability"), words="least p of a right image")
def least_probability(rows: Rows) -> Value:
    """The smallest probability of the class of any rightly predicted example; None without one."""
    right = rows["probability"][rows["label"] == rows["prediction"]]
    return float(right.min()) if len(right) else None
