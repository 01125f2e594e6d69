"""Which examples of a data set a figure is of."""

from __future__ import annotations

import numpy as np

from experiments.data.sources import Dataset
from experiments.runs import entry_values
from experiments.runs.experiment import Config
from experiments.training.memory import Memory


def trained_on(config: Config, data: Dataset) -> np.ndarray:
    """The indices, int32 `[N]`, of the images that the first seed's networks are trained on."""
    included = config["validation_included"]
    memory = Memory(data, entry_values.held_out(config), included=included)
    return memory.indices(config["train_sizes"][0], 0)[0]


def by_class(label: np.ndarray, count: int) -> np.ndarray:
    """The places of so many examples: classes take turns, and then stand side by side.

    Args:
      label: ints `[N]`.
      count: how many; all where there are less.

    Example:
      `by_class(np.array([1, 1, 0, 1, 0]), 3)` is `[2, 4, 0]`, of classes 0, 0 and 1.
    """
    turn = np.zeros(len(label), int)
    for each in np.unique(label):
        turn[label == each] = np.arange((label == each).sum())
    first = np.lexsort((label, turn))[:count]
    return first[np.argsort(label[first], kind="stable")]
