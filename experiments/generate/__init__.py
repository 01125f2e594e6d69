"""Trains generators of images and writes what they make: `python -m experiments.generate`."""

from __future__ import annotations

import os
from pathlib import Path

from ml_collections import ConfigDict

from experiments import comparison
from experiments.data.spec import Spec
from experiments.evaluation.generated import ClassMeans
from experiments.runs import networks, players
from experiments.runs.experiment import Config, Experiment
from experiments.training import objectives


def evaluation(config: Config, spec: Spec) -> ClassMeans:
    """How near class means of generated images are to those of real ones."""
    del config
    return ClassMeans(spec.classes)


GENERATION = Experiment(
    name="experiments.generate:GENERATION",
    parse=objectives.parse,
    read=networks.open_data,
    task=players.game,
    evaluation=evaluation,
    score="nearness",
)


def compare(
    config: ConfigDict, workdir: str | os.PathLike[str], profile: bool = False
) -> dict[str, Path]:
    """Trains and reports generators, see `comparison.compare`."""
    return comparison.compare(config, workdir, GENERATION, profile)
