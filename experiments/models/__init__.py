"""The architectures of the papers, by name, with arguments such as `preact_resnet18(width=16)`."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flax import linen, nnx

from experiments import said
from experiments.models import (
    basic_cnn,
    cifar_resnet,
    cnn13,
    densenet,
    inception_resnet,
    mlp,
    mobilenet,
    nasnet,
    preact_resnet,
    resnet,
    segmentation,
    shake_pyramid,
    shake_shake,
    thesis,
    two_headed,
)
from regjax.core.calls import imported, read_named

Model = nnx.Module | linen.Module
Factory = Callable[..., Model]


def _two_headed(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    model: str,
    outputs: int | None = None,
    rngs: nnx.Rngs,
) -> Model:
    network = create(model, image_shape, classes, rngs)
    return two_headed.with_second_head(network, outputs, rngs)


def _with_covariances(
    image_shape: tuple[int, int, int], classes: int, *, model: str, rngs: nnx.Rngs
) -> Model:
    return two_headed.with_covariances(create(model, image_shape, classes, rngs), classes)


MODELS: dict[str, Factory] = {
    "small_cnn": thesis.SmallCNN,
    "thesis_resnet": thesis.ThesisResNet,
    **{
        f"resnet{depth}": functools.partial(cifar_resnet.CifarResNet, depth=depth)
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    "se_resnet110": functools.partial(cifar_resnet.CifarResNet, depth=110, excited=True),
    "resnext29_8x64d": resnet.CifarResNeXt,
    **{f"resnet{depth}": functools.partial(resnet.ResNet, depth=depth) for depth in (50, 101, 152)},
    "resnext50_32x4d": functools.partial(resnet.ResNet, depth=50, groups=32, group_width=4),
    "resnext101_32x8d": functools.partial(resnet.ResNet, depth=101, groups=32, group_width=8),
    "preact_resnet18": preact_resnet.preact_resnet18,
    "wide_resnet18": functools.partial(preact_resnet.preact_resnet18, width=128),
    "wide_resnet16_8": functools.partial(preact_resnet.wide_resnet, depth=16, width=8),
    "wide_resnet28_10": preact_resnet.wide_resnet,
    "densenet_bc100_12": densenet.cifar_densenet,
    "densenet121": functools.partial(densenet.imagenet_densenet, blocks=(6, 12, 24, 16)),
    "densenet265": functools.partial(densenet.imagenet_densenet, blocks=(6, 12, 64, 48)),
    "shake_shake26": shake_shake.ShakeShakeNet,
    "shake_pyramidnet": shake_pyramid.ShakePyramidNet,
    "cnn13": cnn13.Cnn13,
    "mlp": mlp.Mlp,
    "basic_cnn": basic_cnn.BasicCNN,
    "mobilenet_v2": mobilenet.MobileNetV2,
    "nasnet_mobile": nasnet.NASNetMobile,
    "inception_resnet_v2": inception_resnet.InceptionResNetV2,
    "pspnet": segmentation.pspnet,
    "deeplab_v3": segmentation.deeplab_v3,
    "fcn": segmentation.fcn,
    "two_headed": _two_headed,
    "with_covariances": _with_covariances,
}
BUILT_IN = tuple(MODELS)
# What every model is offered; all else that it takes are arguments of its own.
OFFERED = ("image_shape", "classes", "rngs", "axis_name")
# What arguments must be, by the type of their default; of others, any literal goes.
KINDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a tuple",
}
# Of the models of this package, numbers are widths and rates of dropout, but for a few arguments.
Values = tuple[str, Callable[[Any], bool]]
RANGES: dict[type, Values] = {
    int: ("a whole number from 1 to 65535", lambda value: 1 <= value < 2**16),
    float: ("a rate from 0.0 to below 1.0", lambda value: 0 <= value < 1),
}
OWN_RANGES: dict[tuple[str, str], Values] = {
    ("mobilenet_v2", "width"): ("a factor above 0.0, at most 16.0", lambda value: 0 < value <= 16),
    ("mobilenet_v2", "stem_stride"): ("1 or 2", lambda value: value in (1, 2)),
}


def register(name: str) -> Callable[[Factory], Factory]:
    """Adds a model, which `config.model` can then name: a decorator of a class or a function.

    Args:
      name: of the model.

    Returns:
      A decorator of what makes a Flax module, NNX or Linen. It returns what it decorates.

    Raises:
      ValueError: another module has registered the name.

    Example:
      `@register("tiny")` above `class Tiny(nnx.Module)`, whose `__init__` takes `image_shape,
      classes, *, rngs`
    """

    def add(factory: Factory) -> Factory:
        known = MODELS.get(name)
        if name in BUILT_IN or (known and known.__module__ != factory.__module__):
            raise ValueError(
                f"a model named {name!r} exists already: choose another name, since configs find "
                "models by name."
            )
        MODELS[name] = factory
        return factory

    return add


def create(
    text: str,
    image_shape: tuple[int, int, int],
    classes: int,
    rngs: nnx.Rngs,
    *,
    axis_name: str | None = None,
) -> Model:
    """Build a model for images [H, W, K] and `classes` logits.

    Args:
      text: one of `MODELS`, or `module:name` out of a module that has been imported, with keyword
        arguments of its own. A class and a function are given, of `OFFERED`, what they take.
      image_shape: (height, width, channels).
      classes: number of logits.
      rngs: source of the initial parameters.
      axis_name: in a `pmap` or `shard_map`, the axis over which BatchNorm takes its statistics.

    Returns:
      A module of NNX, or of Linen, which has no parameters yet.

    Raises:
      ValueError: there is no model of that name, it does not take these arguments, it fails, or
        what it makes is no Flax module.

    Example:
      `create("preact_resnet18(width=16)", (32, 32, 3), 10, nnx.Rngs(0))`
    """
    name, factory, given = _read(text)
    takes = parameters(factory)
    _check(name, takes, given)
    offered = dict(zip(OFFERED, (image_shape, classes, rngs, axis_name), strict=True))
    own = {each: value for each, value in offered.items() if each in takes}
    model = _made(name, functools.partial(factory, **own, **given))
    for _, module in nnx.iter_modules(model) if isinstance(model, nnx.Module) else ():
        if isinstance(module, nnx.BatchNorm | cnn13.MeanNorm):
            module.axis_name = axis_name
    return model


def takes_axis_name(text: str) -> bool:
    """Whether a model itself is told the axis over which BatchNorm takes its statistics."""
    return "axis_name" in parameters(_read(text)[1])


def parameters(factory: Factory) -> Mapping[str, inspect.Parameter]:
    """What a class or a function takes by name, and a `functools.partial` of either still does."""
    if isinstance(factory, functools.partial):
        bound = factory.keywords
        inner = parameters(factory.func).items()
        return {n: p.replace(default=bound[n]) if n in bound else p for n, p in inner}
    # NNX hides a class's signature behind its metaclass.
    function = factory.__init__ if inspect.isclass(factory) else factory
    known = inspect.signature(function).parameters
    # What every Linen module takes is no argument of a model.
    hidden = ("self", "parent", "name") if inspect.isclass(factory) else ()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in known.items() if n not in hidden and p.kind in kinds}


def _read(text: str) -> tuple[str, Factory, dict[str, Any]]:
    name, given = read_named(text, "model", "preact_resnet18(width=16)")
    factory = imported(name) if ":" in name else MODELS.get(name)
    if factory is None:
        raise ValueError(f"Unknown model {name!r}; known models: {', '.join(MODELS)}.")
    if not callable(factory):
        raise ValueError(f"the model {name} is no class and no function.")
    return name, factory, given


def _made(name: str, make: Callable[[], Model]) -> Model:
    try:
        model = make()
    except Exception as error:  # it may be anybody's code
        if name in BUILT_IN:
            raise
        raise ValueError(f"the model {name} cannot be made: {said(error)}.") from error
    if not isinstance(model, nnx.Module | linen.Module):
        raise ValueError(
            f"the model {name} must be a Flax module, of NNX or Linen, but it is a "
            f"{type(model).__name__}."
        )
    return model


def _check(name: str, takes: Mapping[str, inspect.Parameter], given: Mapping[str, object]) -> None:
    """Refuses arguments that the model has not, or that are not of their default's kind."""
    known = {n: p.default for n, p in takes.items() if n not in OFFERED}
    for argument, value in given.items():
        if argument not in known:
            words = f"takes {', '.join(known)}" if known else "takes no arguments"
            raise ValueError(f"the model {name} {words}, but was given {argument!r}.")
        _check_kind(name, argument, type(known[argument]), value)
    for argument, default in known.items():
        if default is inspect.Parameter.empty and argument not in given:
            raise ValueError(
                f"the model {name} needs {argument}=: a model is given {', '.join(OFFERED)}, and "
                "all else by its arguments."
            )


def _check_kind(name: str, argument: str, kind: type, value: object) -> None:
    if kind not in KINDS:
        return
    words, fits = KINDS[kind], lambda value: True
    if name in BUILT_IN and kind in RANGES:
        words, fits = OWN_RANGES.get((name, argument), RANGES[kind])
    right = type(value) is kind or (kind is float and type(value) is int)
    if not right or not fits(value):
        raise ValueError(f"the model {name}'s {argument} must be {words}, not {value!r}.")
