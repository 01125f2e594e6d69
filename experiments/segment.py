"""Trains networks with a class for every pixel, and compares them in a table, plots and a web page.

    python -m experiments.segment --config=configs/camvid.py:quick --workdir=runs/pspnet

The config is one of all experiments: `config.label_key` names the masks, in which 255 is ignored,
`config.model` a network such as `"pspnet(backbone='resnet18', width=16)"`, and `config.losses` what
it descends. Losses are means over all labelled pixels of a batch; the score is the mean over
classes of intersection over union, of one pass over whole images or of several views of them, by
`config.views`. All else is as `python -m experiments.classify` has it.
"""

from __future__ import annotations

import os
from pathlib import Path

from ml_collections import ConfigDict

import regjax as rj
from experiments import ConfigError, comparison
from experiments.data.spec import Spec
from experiments.evaluation import views
from experiments.evaluation.segmentation import Segmentation
from experiments.report import overlays
from experiments.runs import networks
from experiments.runs.experiment import Config, Experiment
from experiments.training.descent import Descent


def task(config: Config, spec: Spec, steps_per_epoch: float) -> Descent:
    """The task of one network, as of a classifier, whose labels are masks.

    Raises:
      ConfigError: the labels are one an image.
    """
    if len(spec.example["label"].shape) != 2:
        raise ConfigError(
            f"{config['dataset']!r} has one label an image by config.label_key="
            f"{config['label_key']!r}: name its masks, such as 'segmentation_label'; python "
            "-m experiments.classify trains classifiers."
        )
    return networks.descent(config, spec, steps_per_epoch)


def evaluation(config: Config, spec: Spec) -> Segmentation:
    """The intersections over unions, of logits averaged over the views that the config names.

    Raises:
      ConfigError: `config.views` is no such expression.
    """
    return Segmentation(spec.classes, views.read(config["views"]))


SEGMENTATION = Experiment(
    name="experiments.segment:SEGMENTATION",
    parse=rj.parse,
    read=networks.open_data,
    task=task,
    evaluation=evaluation,
    score="miou",
    entries=("views",),
    pictures=overlays.picture,
)


def compare(
    config: ConfigDict, workdir: str | os.PathLike[str], profile: bool = False
) -> dict[str, Path]:
    """Trains, tests and reports such networks, see `comparison.compare`."""
    return comparison.compare(config, workdir, SEGMENTATION, profile)


if __name__ == "__main__":
    comparison.door(SEGMENTATION)
