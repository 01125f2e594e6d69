"""The checks of `config.perturbations`: what trained networks are tested on, expressions by name.

Such as `"white_noise(sigma=(0.1, 0.2, 0.3))"`: one of the kinds of perturbations.py with its
levels, its options, and `examples=`, so many of the test images, evenly spaced (0: all). Or
`"dataset(name='svhn_cropped')"`, another data set, whose classes are those of equal names, or what
`map={"our class": ("their class", ...)}` says. Noise and corruptions take `draws=`, so many of them
for each image, over which scores are averaged.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from experiments import ConfigError, is_number
from experiments.evaluation import answers
from experiments.evaluation.answers import Sampled
from experiments.evaluation.perturbations import CORRUPTIONS, KINDS
from experiments.evaluation.perturbed import Perturbation
from regjax.attacks.auto_pgd import LOSSES
from regjax.core.calls import read_named

EXAMPLE = "white_noise(sigma=(0.1, 0.2, 0.3))"
SEVERITIES = (1, 2, 3, 4, 5)
MOST_DRAWS = 1000
DRAWN = ("white_noise", "salt_and_pepper", "switched_off_pixels", "corruption")
BALLS = ("pgd", "apgd", "square", "autoattack")  # the attacks whose epsilon is of either norm


def read(text: Any) -> Perturbation:
    """Reads an expression.

    Raises:
      ValueError: it is none, or has an unknown kind, level or option.

    Example:
      `read("white_noise(sigma=(0.1, 0.2), protocol='pixel')").levels` is `(0.1, 0.2)`.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no expression such as {EXAMPLE!r}.")
    name, given = read_named(text, "perturbation", EXAMPLE)
    if name not in KINDS:
        raise ValueError(f"unknown perturbation {name!r}; known are: {', '.join(KINDS)}.")
    levels, examples, draws = _levels(name, given), _examples(name, given), _draws(name, given)
    options = _options(name, given)
    if name in BALLS and options.get("norm", "linf") == "linf" and max(levels) > 1:
        raise ValueError(
            f"{name}'s epsilon is of pixels from 0 to 1, such as 8 / 255, not {levels}."
        )
    return Perturbation(text, name, levels, tuple(sorted(options.items())), examples, draws)


def check(config: Mapping[str, Any]) -> None:
    """Looks at `perturbations`, and at `published_robustness`: percent by method and name.

    Raises:
      ConfigError: a perturbation cannot be read or used, published numbers are not its levels', or
        `uncertainty` cannot be read.
    """
    known = read_all(config["perturbations"], answers.read(config["uncertainty"]))
    for name, perturbation in known.items():
        other = perturbation.reads(perturbation.levels[0]) is not None
        if config["data"] == "stream" and (perturbation.examples or other):
            raise ConfigError(
                f"config.perturbations[{name!r}]: with config.data='stream' all test images are "
                "tested, and of no other data set: leave examples= out, use corruption() in place "
                "of stored_corruption(), and dataset() with config.data='memory' only."
            )
    for method, rows in config["published_robustness"].items():
        for name, values in rows.items() if isinstance(rows, Mapping) else [("", rows)]:
            if name not in known or not _fits(values, known[name]):
                raise ConfigError(
                    f"config.published_robustness.{method} must be, for a name in "
                    "config.perturbations, as many numbers (or None) as it has levels, but for "
                    f"{name!r} it is {values!r}; where none fit, "
                    "--config.published_robustness={} leaves them out."
                )


def _fits(values: Any, perturbation: Perturbation) -> bool:
    series = isinstance(values, tuple | list) and len(values) == len(perturbation.levels)
    return series and all(value is None or is_number(value) for value in values)


def read_all(texts: Mapping[str, Any], sampled: Sampled | None = None) -> dict[str, Perturbation]:
    """Reads a config's `perturbations`, expressions by name.

    Args:
      texts: the expressions.
      sampled: how the networks' answers are sampled, if they are.

    Raises:
      ConfigError: one cannot be read.
    """
    found = {}
    for name, text in texts.items():
        try:
            found[name] = dataclasses.replace(read(text), sampled=sampled)
        except ValueError as error:
            raise ConfigError(f"config.perturbations[{name!r}]: {error}") from None
    return found


def _levels(name: str, given: dict[str, Any]) -> tuple[float, ...]:
    level, (low, high) = KINDS[name].level, KINDS[name].range
    if not level:
        return (1.0,)
    default = SEVERITIES if level == "severity" else None
    value = given.pop(level, default)
    levels = tuple(value) if isinstance(value, tuple | list) else (value,)
    whole = level != "severity" or all(isinstance(v, int) for v in levels)
    if not levels or not whole or not all(is_number(v) and low <= v <= high for v in levels):
        raise ValueError(
            f"{name} needs {level}=, {'whole ' if level == 'severity' else ''}numbers from {low:g} "
            f"to {high:g}, such as {level}={'(1, 2)' if low else '(0.1, 0.2)'}, not {value!r}."
        )
    if len(set(levels)) < len(levels):
        raise ValueError(f"{name} names a {level} twice: {levels}.")
    return tuple(map(float, levels))


def _examples(name: str, given: dict[str, Any]) -> int:
    examples = given.pop("examples", 0)
    if type(examples) is not int or examples < 0:
        raise ValueError(f"{name} needs a whole number of examples, 0 for all, not {examples!r}.")
    return examples


def _draws(name: str, given: dict[str, Any]) -> int:
    draws = given.pop("draws", 1) if name in DRAWN else 1
    if type(draws) is not int or not 1 <= draws <= MOST_DRAWS:
        raise ValueError(f"{name} needs a whole number of draws up to {MOST_DRAWS}, not {draws!r}.")
    return draws


def _options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(KINDS[name].function).parameters.values())[2:]
    known = [p.name for p in parameters]
    unknown = [option for option in given if option not in known]
    if unknown:
        general = ["examples", *(["draws"] if name in DRAWN else [])]
        names = ", ".join(filter(None, [KINDS[name].level, *known, *general]))
        raise ValueError(f"{name} has no {unknown[0]!r}; it takes: {names}.")
    if "name" in known:
        _check_name(name, given.get("name"))
    for option, value in given.items():
        fits, words = OPTIONS.get(option, COUNT)
        if not fits(value):
            raise ValueError(f"{name}'s {option} must be {words}, not {value!r}.")
    if "map" in given:
        given["map"] = tuple((ours, _several(theirs)) for ours, theirs in given["map"].items())
    return given


def _check_name(kind: str, value: Any) -> None:
    fits, words = value in CORRUPTIONS, f"one of: {', '.join(CORRUPTIONS)}"
    if kind == "dataset":
        fits, words = isinstance(value, str) and value != "", "a data set, such as 'svhn_cropped'"
    if not fits:
        raise ValueError(f"{kind} needs name=, {words}, not {value!r}.")


def _several(theirs: Any) -> tuple[Any, ...]:
    return tuple(theirs) if isinstance(theirs, tuple | list) else (theirs,)


def _is_map(value: Any) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    names = [name for theirs in value.values() for name in _several(theirs)]
    return all(map(_several, value.values())) and all(isinstance(n, str) for n in [*value, *names])


# Whether an option's value fits, and what it must be; what is not here is a COUNT.
OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str), "a text"),
    "protocol": (lambda value: value in ("paper", "pixel"), "'paper' or 'pixel'"),
    "levels": (
        lambda value: value in ("auto", "cifar", "tiny_imagenet", "imagenet"),
        "'auto', 'cifar', 'tiny_imagenet' or 'imagenet'",
    ),
    "norm": (lambda value: value in ("linf", "l2"), "'linf' or 'l2'"),
    "loss": (lambda value: value in LOSSES, f"one of: {', '.join(LOSSES)}"),
    "std": (
        lambda value: isinstance(value, tuple) and all(is_number(v) and v > 0 for v in value),
        "positive numbers",
    ),
    "resize": (lambda value: value in ("centre", "whole"), "'centre' or 'whole'"),
    "colored": (lambda value: isinstance(value, bool), "True or False"),
    "map": (_is_map, "class names such as {'our class': ('their class', 'their other')}"),
}
COUNT = (
    lambda value: type(value) is int and 1 <= value <= 10**6,
    "a whole number of at least 1",
)
