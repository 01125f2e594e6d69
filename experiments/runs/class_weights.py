"""What examples count by their class in the objectives of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import regjax as rj
from experiments import ConfigError
from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.data.streams import Streams
from experiments.training.memory import Memory
from experiments.training.streaming import Stream

BALANCED = "balanced"


def of(
    config: Mapping[str, Any], spec: Spec, source: Memory | Stream, size: int
) -> tuple[float, ...]:
    """The weights, one a class, of a training size; () for none.

    "Balanced" ones are `N / (C n_c)`, as scikit-learn has them, of the training examples, of which
    n_c are of class c and C classes occur; of a mixture, those that a batch holds on average.

    Raises:
      ConfigError: there are other classes, or labels of pixels, whose weights must be numbers.
    """
    given = config["class_weights"]
    if (given == BALANCED or config["sampling"]) and spec.example["label"].shape:
        raise ConfigError(
            "config.class_weights='balanced' and config.sampling are for data sets of one label an "
            f"image, but {config['dataset']!r} has one a pixel: give the weights as numbers."
        )
    if given == BALANCED:
        shares = source.class_shares(size, config["batch_size"])
        occurs = shares > 0
        weights = np.where(occurs, 1 / (occurs.sum() * np.where(occurs, shares, 1)), 0)
        return tuple(weights.tolist())
    if given and len(given) != spec.classes:
        raise ConfigError(
            f"config.class_weights has {len(given)} numbers, but {config['dataset']!r} has "
            f"{spec.classes} classes: {', '.join(spec.class_names[:20])}."
        )
    return tuple(map(float, given))


def announced(config: Mapping[str, Any], data: Dataset | Streams) -> str:
    """What is to be said before classes are counted, where that takes long; else ""."""
    if config["class_weights"] != BALANCED or not isinstance(data, Streams) or data.about:
        return ""
    return (
        f"config.class_weights='balanced': all {data.examples:,} training examples of "
        f"{config['dataset']!r} are read once for their classes, which takes as long as the disk."
    )


def planned(config: Mapping[str, Any], spec: Spec) -> tuple[float, ...]:
    """As many weights as `of` would return, for a data set that is not there."""
    given = config["class_weights"]
    return (1.0,) * spec.classes if given == BALANCED else tuple(map(float, given))


def weighted(objective: Any, weights: tuple[float, ...]) -> Any:
    """The loss with its examples counted by class, of the labels that its wrappers make.

    Raises:
      ConfigError: the objective is no loss of the library, or has class weights already.
    """
    if not weights:
        return objective
    if not isinstance(objective, rj.Loss):
        raise ConfigError("config.class_weights is for losses of regjax, and not for this task.")
    if any(stage.definition.name == "class_weights" for stage in objective.stages):
        raise ConfigError(
            f"config.class_weights and the loss {objective!r} both weigh classes: leave one out."
        )
    base = rj.Loss(objective.stages[:1])
    return rj.Loss((*rj.class_weights(base, weights=weights).stages, *objective.stages[1:]))
