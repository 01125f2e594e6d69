"""What hands examples to the programs: from memory (`memory.py`) or from the disk (`streaming.py`).

A feed knows rows and examples, and nothing of what they are scored by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.training.sweep import stack
from experiments.training.task import Evaluation

# So many steps are at most one call of the device and one line of the record.
STEPS_PER_CALL = 20
# So many examples a device measures together.
MEASURED = 250

Measured = dict[str, np.ndarray]


class Member(NamedTuple):
    """One of the runs that are trained together.

    Attributes:
      objective: the objective that it minimises.
      seed: the seed of its network, its subset and its steps.
      size: the number of training examples per class, 0 for all.
    """

    objective: Any
    seed: int
    size: int = 0


def stacked(members: Sequence[Member]) -> tuple[Any, np.ndarray]:
    """The objectives, leaf by leaf, and the seeds of runs, `[R]`."""
    seeds = np.asarray([member.seed for member in members], np.uint32)
    return stack([member.objective for member in members]), seeds


class Feed(Protocol):
    """The examples of a group of runs, and the steps on them."""

    def start(self) -> Any:
        """The states before the first step."""

    def advance(self, states: Any, step: int, count: int) -> tuple[Any, Any, Any]:
        """Takes `count` steps from a step on: the states, and `steps.advance`'s two dicts `[R]`."""

    def state(self) -> dict[str, Any]:
        """Where it is, as JSON."""

    def restore(self, state: dict[str, Any]) -> None:
        """Goes where it was."""

    def close(self) -> None:
        """Ends what reads."""

    def measure(
        self, states: Any, evaluation: Evaluation, *, examples: int = 0, stored: Any = None
    ) -> Measured:
        """The measurements `[R, N, ...]` of the test examples.

        Args:
          states: of the runs.
          evaluation: what is measured.
          examples: so many, evenly spaced; 0 for all.
          stored: other examples than the data set's own.
        """

    def measure_held_out(self, states: Any, evaluation: Evaluation) -> Measured | None:
        """The measurements `[R, N, ...]` of the examples that are held out, if there are any."""


def rows_of_batches(size: int, multiple: int, most: int = MEASURED) -> int:
    """How many examples are measured together, a multiple of what the devices need."""
    return -(-min(most, size) // multiple) * multiple


def spaced(count: int, wanted: int) -> np.ndarray:
    """So many of the first `count` numbers, evenly spaced; all for 0, or where there are less."""
    if not 0 < wanted < count:
        return np.arange(count, dtype=np.int32)
    return (np.arange(wanted) * count // wanted).astype(np.int32)
