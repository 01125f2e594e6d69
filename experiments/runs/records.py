"""What a record must hold: of a finished run, of a test, of a step's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.runs.plan import FIELDS, Run

# A run's scores under a perturbation, one for each level.
ROBUSTNESS = ("levels", "accuracy", "nll", "ece")
IOU = "test_iou"
SPLITS = ("test_", "validation_")


def run_of(record: Mapping[str, Any]) -> Run:
    """The run that a record is of."""
    return Run(**{name: record[name] for name in FIELDS})


def class_accuracy(record: Mapping[str, Any]) -> Sequence[float | None]:
    """The accuracy on each class in a finished run's record; older versions named it otherwise."""
    return record.get("test_class_accuracy", record.get("class_accuracy")) or ()


def class_scores(record: Mapping[str, Any]) -> Sequence[float | None]:
    """The score of each class: the intersection over union where pixels are told, else accuracy."""
    return record.get(IOU) or class_accuracy(record)


def is_finished(record: Mapping[str, Any]) -> bool:
    """Whether it is a finished run's; scores may come and go from one version to the next."""
    scores = [value for name, value in record.items() if name.startswith(SPLITS)]
    scores.append(record.get("train_loss", ""))
    names = _names_run(record) and isinstance(record.get("loss"), str)
    return names and all(map(_is_score, scores)) and _is_series(class_scores(record))


def is_tested(record: Mapping[str, Any]) -> bool:
    """Whether it has a run's scores under a perturbation, as many as there are levels."""
    series = [record.get(name) for name in ROBUSTNESS]
    lengths = {len(each) if isinstance(each, list) else -1 for each in series}
    same = len(lengths) == 1 and all(map(_is_series, series))
    return same and _names_run(record) and all(_is_text(record, n) for n in ("loss", "text"))


def is_report(record: Mapping[str, Any]) -> bool:
    """Whether it says what a run reported at a step."""
    when = [record.get("step"), record.get("epoch")]
    return _names_run(record) and all(isinstance(n, int | float) and math.isfinite(n) for n in when)


def _names_run(record: Mapping[str, Any]) -> bool:
    whole = all(isinstance(record.get(name), int) for name in ("train_size", "seed"))
    return whole and _is_text(record, "method") and _is_number(record.get("strength", ""))


def _is_text(record: Mapping[str, Any], name: str) -> bool:
    return isinstance(record.get(name), str)


def _is_score(value: Any) -> bool:
    """A number, or lists of them such as a confusion matrix; None stands for what is not finite."""
    return all(map(_is_score, value)) if isinstance(value, list) else _is_number(value)


def _is_series(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)
