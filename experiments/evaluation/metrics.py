"""Numbers that say what a classifier is worth, in float64, of what was measured on each example.

A metric is one function under `@metric`. It is given, by name, the measurements that it needs:
"label" and "prediction", ints `[N]`; "nll" and "confidence" `[N]`; "probabilities" `[N, C]`; and
"classes", C itself. A network that answers NaN predicts -1, which is no class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Rows = Mapping[str, np.ndarray]
Value = float | list[Any] | None

BINS = 15  # of the calibration error


@dataclasses.dataclass(frozen=True)
class Metric:
    """A registered metric, called with rows.

    Attributes:
      function: the function of the rows that have a label, at least one.
      needs: the measurements that the function looks at.
      words: the name that a table shows, with the unit.
      percent: whether a table shows 100 times the value.
      decimals: the number of decimals that a table shows.
      larger_is_better: whether the better of two values is the larger one; None where the value is
        no single number.
    """

    function: Callable[[Rows], Value]
    needs: tuple[str, ...]
    words: str
    percent: bool
    decimals: int
    larger_is_better: bool | None

    def __call__(self, rows: Rows) -> Value:
        """The value over all rows whose label is not negative; None where there are none."""
        chosen: Any = slice(None)
        if "label" in rows:
            chosen = rows["label"] >= 0
            if not chosen.any():
                return None
        return self.function({n: rows[n][chosen] if rows[n].ndim else rows[n] for n in self.needs})


METRICS: dict[str, Metric] = {}


def metric(
    *,
    needs: tuple[str, ...],
    words: str,
    percent: bool = False,
    decimals: int = 3,
    larger_is_better: bool | None = True,
) -> Callable[[Callable[[Rows], Value]], Metric]:
    """Registers a function as the metric of its name; the arguments are `Metric`'s attributes.

    Raises:
      ValueError: another module has a metric of that name.

    Example:
      `@metric(needs=("confidence",), words="mean confidence (%)", percent=True)` over
      `def mean_confidence(rows): return float(rows["confidence"].mean(dtype=np.float64))`
    """

    def register(function: Callable[[Rows], Value]) -> Metric:
        name = function.__name__
        known = METRICS.get(name)
        if known and known.function.__module__ != function.__module__:
            raise ValueError(
                f"a metric named {name} exists already in {known.function.__module__}: choose "
                "another name."
            )
        METRICS[name] = Metric(function, needs, words, percent, decimals, larger_is_better)
        return METRICS[name]

    return register


@metric(needs=("label", "prediction"), words="accuracy (%)", percent=True, decimals=2)
def accuracy(rows: Rows) -> Value:
    """The share of examples whose class is predicted."""
    return float(np.mean(rows["label"] == rows["prediction"]))


@metric(needs=("nll",), words="negative log-likelihood (nats)", larger_is_better=False)
def nll(rows: Rows) -> Value:
    """The mean negative log-likelihood of the labels, in nats."""
    return float(np.mean(rows["nll"], dtype=np.float64))


@metric(
    needs=("label", "prediction", "confidence"),
    words="expected calibration error (%)",
    percent=True,
    larger_is_better=False,
)
def ece(rows: Rows) -> Value:
    """The mean gap between confidence and accuracy: `rj.metrics.expected_calibration_error`."""
    confidence = rows["confidence"]
    if np.isnan(confidence).any():
        return float("nan")
    # In the precision that it was measured in, where 0.6 is 9/15, and not a little more.
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = (rows["label"] == rows["prediction"]) - confidence.astype(np.float64)
    return float(np.abs(np.bincount(place, gap, BINS)).sum() / len(gap))


@metric(needs=("label", "prediction"), words="balanced accuracy (%)", percent=True, decimals=2)
def balanced_accuracy(rows: Rows) -> Value:
    """The mean accuracy over the classes that occur."""
    right, count = _right_of_class(rows, 0)
    return float(np.mean(right[count > 0] / count[count > 0]))


@metric(
    needs=("label", "prediction", "classes"),
    words="accuracy by class (%)",
    percent=True,
    decimals=2,
    larger_is_better=None,
)
def class_accuracy(rows: Rows) -> Value:
    """The accuracy on each class, `[C]`; 0 where the class does not occur."""
    right, count = _right_of_class(rows, int(rows["classes"]))
    return (right / np.maximum(count, 1)).tolist()


@metric(needs=("label", "classes"), words="examples by class", decimals=0, larger_is_better=None)
def class_count(rows: Rows) -> Value:
    """How many examples are of each class, `[C]`."""
    count: list[Any] = np.bincount(rows["label"], minlength=int(rows["classes"])).tolist()
    return count


def _right_of_class(rows: Rows, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """How many examples of each class are predicted, and how many there are."""
    label = rows["label"]
    count = np.bincount(label, minlength=classes)
    return np.bincount(label[label == rows["prediction"]], minlength=len(count)), count


@metric(
    needs=("label", "prediction", "classes"),
    words="confusion matrix",
    decimals=0,
    larger_is_better=None,
)
def confusion(rows: Rows) -> Value:
    """How many examples of a class (row) are predicted to be of a class (column), `[C, C]`."""
    label, prediction, classes = rows["label"], rows["prediction"], int(rows["classes"])
    answered = prediction >= 0
    place = label[answered].astype(np.int64) * classes + prediction[answered]
    return np.bincount(place, minlength=classes**2).reshape(classes, classes).tolist()


@metric(
    needs=("label", "probabilities"), words="area under the ROC curve (%)", percent=True, decimals=2
)
def auc(rows: Rows) -> Value:
    """The chance that an example of a class scores above one of another by the class's probability.

    A tie counts half. Of two classes it is that of class 1; of more, the mean over the classes that
    some examples are of and some are not.

    Returns:
      In [0, 1], NaN where a probability is, and None where all examples are of one class.
    """
    label, probabilities = rows["label"], rows["probabilities"]
    if np.isnan(probabilities).any():
        return float("nan")
    classes = probabilities.shape[1]
    each = [
        _area(probabilities[:, c], label == c) for c in ([1] if classes == 2 else range(classes))
    ]
    found = [area for area in each if area is not None]
    return float(np.mean(found)) if found else None


def _area(score: np.ndarray, positive: np.ndarray) -> float | None:
    """The chance that a positive scores above a negative, by its rank among the negatives."""
    high, low = score[positive], np.sort(score[~positive])
    if not len(high) or not len(low):
        return None
    twice = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(twice.sum(dtype=np.int64) / (2 * len(high) * len(low)))


BUILT_IN = tuple(METRICS)
