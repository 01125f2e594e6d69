"""From a config's entries to what is trained: the data, the network, its optimizer, its rate."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

import regjax as rj
import regjax.flax
from experiments import models
from experiments.data import joining, mixture, sources, whitening
from experiments.data.items import Options
from experiments.data.one_class import one_class
from experiments.data.some_classes import some_classes
from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.data.streams import Streams
from experiments.runs import entry_values, initial
from experiments.training import growth, optimizers
from experiments.training.descent import Descent

Config = Mapping[str, Any]

# How the calls of Linen modules are told to train, by keyword.
MODES = {"train": True, "training": True, "deterministic": False, "use_running_average": False}


def open_data(config: Config) -> Dataset | Streams:
    """The data set of a config, with what is mixed in; whole, or to be read as streams."""
    name, folder = config["dataset"], config["data_dir"] or None
    size, label = config["image_size"], config["label_key"]
    own = entry_values.own_validation(config)
    options = Options(
        image=config["image_key"],
        resize=config["resize"],
        broken=config["broken"],
        test_share=config["test_share"],
        split_seed=config["split_seed"],
    )
    how = {"image_size": size, "label": label, "options": options}
    if config["data"] == "stream":
        return Streams(name, folder, **how, workers=config["workers"], validation=own)
    first = sources.load(name, folder, **how, validation=own)
    others = [sources.load(each, folder, **how) for each, _ in entry_values.mixed(config)]
    if kept := config["classes"]:
        first, *others = (some_classes(each, kept) for each in (first, *others))
    found = mixture.join(first, others)
    if positive := config["positive_class"]:
        found = one_class(found, positive)
    if not config["joined"]:
        return found
    named = entry_values.joined(config)
    return joining.add(found, [(sources.load(n, folder, **how), seed) for n, seed in named])


def rate(config: Config, steps_per_epoch: float) -> optax.Schedule:
    """The learning rate by step."""
    of = (config["schedule"], config["learning_rate"], steps_per_epoch, config["epochs"])
    return optimizers.schedule(*of)


def builder(text: str, shape: tuple[int, ...], classes: int) -> Callable[..., rj.Forward]:
    """The function `(key, axis_name=None) -> Forward` that makes freshly initialised networks.

    Args:
      text: a model with its arguments, such as `"preact_resnet18(width=16)"`. Its last linear
        layer is called `head`, or as its `head_name` says, by path; `auxiliary_names` are the
        paths of other heads, whose outputs losses may read.
      shape: of an image, `(H, W, K)`.
      classes: the number of logits.

    Raises:
      ValueError: in the function, there is no such model, or it has no such layer.
    """
    height, width, channels = shape

    def build(key: jax.Array, axis_name: str | None = None) -> rj.Forward:
        rngs = nnx.Rngs(key)
        of = (height, width, channels)
        model = models.create(text, of, classes, rngs, axis_name=axis_name)
        others = getattr(model, "auxiliary_names", ())
        bind = functools.partial(regjax.flax.bind, model, auxiliary=others)
        if isinstance(model, linen.Module):
            training, frozen = _modes(model)
            variables = model.init(key, jnp.zeros((1, *of)), **frozen)
            if axis_name and "batch_stats" in variables and not models.takes_axis_name(text):
                raise ValueError(
                    f"the model {text} has BatchNorm and takes no axis_name, which tells it over "
                    "which devices: give it one, or set config.parallelism='jit'."
                )
            bind = functools.partial(bind, variables, training=training, frozen=frozen)
        return _with_head(bind, text, getattr(model, "head_name", "head"))

    return build


def _modes(model: linen.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords of a Linen module's call in training, and with running averages."""
    takes = inspect.signature(type(model).__call__).parameters
    in_training = {name: value for name, value in MODES.items() if name in takes}
    return in_training, {name: not value for name, value in in_training.items()}


def _with_head(bind: Callable[..., rj.Forward], text: str, head: str) -> rj.Forward:
    try:
        return bind(head=head)
    except ValueError as error:
        arrays = jax.tree.leaves_with_path(bind().params)
        paths = [
            jax.tree_util.keystr(p, simple=True, separator=".") for p, x in arrays if x.ndim > 1
        ]
        linear = [path.removesuffix(".kernel") for path in paths if path.endswith(".kernel")]
        raise ValueError(
            f"the model {text} has no linear layer {head!r} that ends in its logits: call it "
            f"'head', or set head_name = 'ITS PATH' in the class; its layers with a kernel are: "
            f"{', '.join(linear) or 'none'}."
        ) from error


def descent(config: Config, spec: Spec, steps_per_epoch: float) -> Descent:
    """The task of one network that descends the gradient of a loss, as the config says.

    Raises:
      ConfigError: the run that it starts from is not there, or nothing of it fits.
    """
    build = builder(config["model"], spec.shape, spec.classes)
    if config["init_from"]:
        build = initial.started(build, config["init_from"])
    return Descent(
        build=build,
        optimizer=optimizers.optimizer(
            config["optimizer"], rate(config, steps_per_epoch), config["clip_norm"]
        ),
        prepare=whitening.prepare(
            config["whiten"], spec.zca, config["mean"] or None, config["std"] or None
        ),
        classes=spec.classes,
        example=spec.example,
        dtype=jnp.dtype(config["dtype"]),
        accumulate=config["accumulate"],
        decay=config["average"],
        growing=growth.read_curves(entry_values.growing(config["growing"]), steps_per_epoch),
        steps=round(config["epochs"] * steps_per_epoch),
        taught=config["evaluate_teacher"],
    )
