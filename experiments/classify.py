"""Trains classifiers under many losses and compares them in a table, plots and a web page.

    python -m experiments.classify --config=configs/digits.py --workdir=runs/digits

Every combination of the config's losses, training sizes, strengths and seeds is trained once;
`--config.NAME=VALUE` changes an entry. The work folder gets `config.json`, `runs.jsonl` (a line for
each finished run), `robustness.jsonl` (a line for each and what it was tested against),
`results.json`, `table.md`, the plots and `report.html`; under `training/`, for
each group of runs that are trained together, `metrics.jsonl`, TensorBoard's files and checkpoints.
Killed or stopped (Ctrl-C, SIGTERM) and started again with the same command, a comparison goes on
from its newest checkpoint and ends as if nothing had happened.
"""

from __future__ import annotations

import os
from pathlib import Path

from ml_collections import ConfigDict

import regjax as rj
from experiments import ConfigError, comparison
from experiments.data.spec import Spec
from experiments.evaluation import answers, classification
from experiments.evaluation.classification import Classification
from experiments.runs import networks
from experiments.runs.experiment import Config, Experiment


def evaluation(config: Config, spec: Spec) -> Classification:
    """The metrics that the config names, or the usual ones, and those of its table.

    Raises:
      ConfigError: `config.uncertainty` is no such expression, or labels are of pixels.
    """
    if spec.example["label"].shape:
        raise ConfigError(
            f"{config['dataset']!r} has one label a pixel by config.label_key="
            f"{config['label_key']!r}: python -m experiments.segment trains on it."
        )
    names = config["metrics"] or classification.usual(spec.classes)
    names = tuple(dict.fromkeys([*names, *config["columns"]]))
    return Classification(spec.classes, names, answers.read(config["uncertainty"]))


CLASSIFICATION = Experiment(
    name="experiments.classify:CLASSIFICATION",
    parse=rj.parse,
    read=networks.open_data,
    task=networks.descent,
    evaluation=evaluation,
    metrics=classification.known,
    entries=("uncertainty",),
)


def compare(
    config: ConfigDict, workdir: str | os.PathLike[str], profile: bool = False
) -> dict[str, Path]:
    """Trains, tests and reports classifiers, see `comparison.compare`."""
    return comparison.compare(config, workdir, CLASSIFICATION, profile)


if __name__ == "__main__":
    comparison.door(CLASSIFICATION)
