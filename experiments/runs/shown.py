"""How a score is shown: its words, its unit, its decimals, and which of two is the better one."""

from __future__ import annotations

from typing import NamedTuple

from experiments.evaluation import judged, roc, segmentation, unsure  # noqa: F401 - register metrics
from experiments.evaluation.metrics import METRICS


class Shown(NamedTuple):
    """How a metric is shown.

    Attributes:
      words: the name that a table shows, with the unit.
      percent: whether 100 times the value is shown.
      decimals: the number of decimals that are shown.
      larger_is_better: whether the better of two values is the larger one.
    """

    words: str
    percent: bool = False
    decimals: int = 3
    larger_is_better: bool = True

    @property
    def name(self) -> str:
        """The words without the unit."""
        return self.words.partition(" (")[0]

    @property
    def scale(self) -> float:
        """What a recorded value is multiplied with."""
        return 100.0 if self.percent else 1.0


def shown(name: str) -> Shown:
    """How the metric of that name is shown; one that is not known as it is recorded."""
    known = METRICS.get(name)
    if known is None:
        return Shown(name.rpartition(":")[2].replace("_", " "), decimals=4)
    return Shown(known.words, known.percent, known.decimals, known.larger_is_better is not False)
