"""The architectures of the papers, by name, with arguments such as `preact_resnet18(width=16)`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flax import nnx

from experiments.models import cifar_resnet, preact_resnet, resnet, thesis
from regjax.core.calls import read_named

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "small_cnn": thesis.SmallCNN,
    "thesis_resnet": thesis.ThesisResNet,
    **{
        f"resnet{depth}": functools.partial(cifar_resnet.CifarResNet, depth=depth)
        for depth in (20, 32, 44, 56, 110)
    },
    "resnet50": resnet.ResNet50,
    "preact_resnet18": preact_resnet.preact_resnet18,
    "wide_resnet18": functools.partial(preact_resnet.preact_resnet18, width=128),
    "wide_resnet28_10": functools.partial(preact_resnet.wide_resnet28, width=10),
}
# What arguments can be, by the type of their default: switches, widths, rates of dropout.
KINDS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda value: True),
    int: ("a whole number from 1 to 65535", lambda value: 1 <= value < 2**16),
    float: ("a rate from 0.0 to below 1.0", lambda value: 0 <= value < 1),
}


def create(
    text: str,
    image_shape: tuple[int, int, int],
    classes: int,
    rngs: nnx.Rngs,
    *,
    axis_name: str | None = None,
) -> nnx.Module:
    """Build a model for images [H, W, K] and `classes` logits.

    Args:
      text: one of `MODELS`, with keyword arguments of its own.
      image_shape: (height, width, channels).
      classes: number of logits.
      rngs: source of the initial parameters.
      axis_name: in a `pmap` or `shard_map`, the axis over which BatchNorm takes its statistics.

    Raises:
      ValueError: there is no model of that name, or it does not take these arguments.

    Example:
      `create("preact_resnet18(width=16)", (32, 32, 3), 10, nnx.Rngs(0))`
    """
    name, given = read_named(text, "model", "preact_resnet18(width=16)")
    if name not in MODELS:
        raise ValueError(f"Unknown model {name!r}; known models: {', '.join(MODELS)}.")
    _check(name, given)
    model = MODELS[name](image_shape, classes, rngs=rngs, **given)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            module.axis_name = axis_name
    return model


def _check(name: str, given: dict[str, object]) -> None:
    """Refuses arguments that the model has not, or that are not of their default's kind."""
    parameters = inspect.signature(MODELS[name]).parameters.values()
    known = {p.name: p.default for p in parameters if p.default is not p.empty}
    for argument, value in given.items():
        if argument not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no arguments"
            raise ValueError(f"the model {name} {takes}, but was given {argument!r}.")
        words, fits = KINDS[type(known[argument])]
        if type(value) is not type(known[argument]) or not fits(value):
            raise ValueError(f"the model {name}'s {argument} must be {words}, not {value!r}.")
