"""Trains generators of images and writes what they make: `python -m experiments.generate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from experiments import comparison
from experiments.data.spec import Spec
from experiments.evaluation.generated import ClassMeans
from experiments.report import plots, tiles
from experiments.runs import networks, players, samples
from experiments.runs.experiment import Config, Experiment, Picture
from experiments.runs.generator import generator
from experiments.runs.load import Trained
from experiments.training import objectives

# Pixels that the longer side of an image takes in a picture.
SMALLEST, LARGEST, DPI = 60, 120, 150


def evaluation(config: Config, spec: Spec) -> ClassMeans:
    """How near class means of generated images are to those of real ones."""
    del config
    return ClassMeans(spec.classes)


def picture(found: Trained, data: Callable[[], Any]) -> Picture:
    """Ten images of each class in a row, of a run's generator; no data are read."""
    del data
    made = generator(found)
    image = samples.of_each_class(made)
    if made.of == "nothing":
        return Picture(draw(image), "Samples of the generator, which is told no class.")
    return Picture(draw(image, found.spec.class_names), "Samples of the generator by class.")


def draw(image: np.ndarray, class_names: Sequence[str] = ()) -> Figure:
    """Rows of images.

    Args:
      image: `[R, N, H, W, K]`, in [0, 1].
      class_names: one a row; none leaves them out.
    """
    side = max(image.shape[2:4])
    whole = tiles.sheet(image, min(max(side, SMALLEST), LARGEST))
    width, height = whole.shape[1] / DPI, whole.shape[0] / DPI
    figure = Figure((width + 0.8 * bool(class_names), height), DPI, layout="constrained")
    tiles.show(figure.add_subplot(), whole, [plots.label(name) for name in class_names])
    return figure


GENERATION = Experiment(
    name="experiments.generate:GENERATION",
    parse=objectives.parse,
    read=networks.open_data,
    task=players.game,
    evaluation=evaluation,
    score="nearness",
    pictures=picture,
)


def compare(
    config: ConfigDict, workdir: str | os.PathLike[str], profile: bool = False
) -> dict[str, Path]:
    """Trains and reports generators, see `comparison.compare`."""
    return comparison.compare(config, workdir, GENERATION, profile)
