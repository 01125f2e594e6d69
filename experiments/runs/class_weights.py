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

BALANCED, MEDIAN = "balanced", "median"
COUNTED = (BALANCED, MEDIAN)  # of the labels


def of(
    config: Mapping[str, Any], spec: Spec, source: Memory | Stream, size: int
) -> tuple[float, ...]:
    """The weights, one a class, of a training size; () for none.

    "Balanced" ones are `N / (C n_c)`, as scikit-learn has them, of the training examples, of which
    n_c are of class c and C classes occur; of a mixture, those that a batch holds on average.
    "Median" ones are of labels of pixels, `m / f_c`: f_c is the share of class c among the labelled
    pixels of the training images that show it, and m the median of these shares, see "Predicting
    Depth, Surface Normals and Semantic Labels" (Eigen and Fergus, 2015), 6.3.2. A class that never
    occurs has the weight 0.

    Raises:
      ConfigError: there are other classes, or such weights are not for such labels.
    """
    given = config["class_weights"]
    _check_labels(config, spec, source)
    if given == MEDIAN:
        assert isinstance(source, Memory)
        return _median(source.pixel_counts())
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


def _check_labels(config: Mapping[str, Any], spec: Spec, source: Memory | Stream) -> None:
    given, name = config["class_weights"], config["dataset"]
    dense = bool(spec.example["label"].shape)
    if dense and (given == BALANCED or config["sampling"]):
        raise ConfigError(
            "config.class_weights='balanced' and config.sampling are for data sets of one label an "
            f"image, but {name!r} has one a pixel: set config.class_weights='median', or give the "
            "weights as numbers."
        )
    if given == MEDIAN and not (dense and isinstance(source, Memory)):
        raise ConfigError(
            f"config.class_weights='median' is for labels of pixels in memory, and {name!r} has "
            f"{'them in a stream' if dense else 'one label an image'}: give the weights as numbers"
            f"{'' if dense else ', or as balanced ones'}."
        )


def _median(counts: np.ndarray) -> tuple[float, ...]:
    """The weights, of how many pixels each image `[N, C]` has of each class."""
    pixels = counts.sum(0)
    occurs = pixels > 0
    beside = np.where(counts > 0, counts.sum(1, keepdims=True), 0).sum(0)
    shares = pixels[occurs] / beside[occurs]
    weights = np.zeros(len(pixels))
    weights[occurs] = np.median(shares) / shares
    return tuple(weights.tolist())


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
    return (1.0,) * spec.classes if given in COUNTED else tuple(map(float, given))


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
