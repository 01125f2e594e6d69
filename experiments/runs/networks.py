"""From a config's entries to what is trained: the data, the network, its optimizer, its rate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import regjax as rj
import regjax.flax
from experiments import models
from experiments.data import mixture, sources
from experiments.data.items import Options
from experiments.data.preprocessing import normalise
from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.data.streams import Streams
from experiments.runs import entries
from experiments.training import growth, optimizers
from experiments.training.descent import Descent

Config = Mapping[str, Any]


def open_data(config: Config) -> Dataset | Streams:
    """The data set of a config, with what is mixed in; whole, or to be read as streams."""
    name, folder = config["dataset"], config["data_dir"] or None
    size, label = entries.image_size(config) or None, config["label_key"]
    options = Options(
        image=config["image_key"],
        resize=config["resize"],
        broken=config["broken"],
        test_share=config["test_share"],
        split_seed=config["split_seed"],
    )
    if config["data"] == "stream":
        assert size is not None
        reading = {"workers": config["workers"], "label": label, "options": options}
        return Streams(name, folder, image_size=size, **reading)
    first, *others = (
        sources.load(each, folder, image_size=size, label=label, options=options)
        for each in (name, *config["mixture"])
    )
    return mixture.join(first, others)


def rate(config: Config, steps_per_epoch: float) -> optax.Schedule:
    """The learning rate by step."""
    of = (config["schedule"], config["learning_rate"], steps_per_epoch, config["epochs"])
    return optimizers.schedule(*of)


def builder(text: str, shape: tuple[int, ...], classes: int) -> Callable[..., rj.Forward]:
    """The function `(key, axis_name=None) -> Forward` that makes freshly initialised networks.

    Args:
      text: a model with its arguments, such as `"preact_resnet18(width=16)"`.
      shape: of an image, `(H, W, K)`.
      classes: the number of logits.
    """
    height, width, channels = shape

    def build(key: jax.Array, axis_name: str | None = None) -> rj.Forward:
        rngs = nnx.Rngs(key)
        model = models.create(text, (height, width, channels), classes, rngs, axis_name=axis_name)
        return regjax.flax.bind(model, head="head")

    return build


def descent(config: Config, spec: Spec, steps_per_epoch: float) -> Descent:
    """The task of one network that descends the gradient of a loss, as the config says."""
    return Descent(
        build=builder(config["model"], spec.shape, spec.classes),
        optimizer=optimizers.optimizer(
            config["optimizer"], rate(config, steps_per_epoch), config["clip_norm"]
        ),
        prepare=functools.partial(
            normalise, mean=config["mean"] or None, std=config["std"] or None
        ),
        classes=spec.classes,
        example=spec.example,
        dtype=jnp.dtype(config["dtype"]),
        accumulate=config["accumulate"],
        decay=config["average"],
        growing=growth.read_curves(entries.growing(config["growing"]), steps_per_epoch),
        steps=round(config["epochs"] * steps_per_epoch),
    )
