"""The checks of `config.perturbations`: what trained networks are tested on, expressions by name.

Such as `"white_noise(sigma=(0.1, 0.2, 0.3))"`: one of the kinds of perturbations.py with its
levels, its options, and `examples=`, so many of the test images, evenly spaced (0: all).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from experiments import ConfigError
from experiments.evaluation.perturbations import CORRUPTIONS, KINDS
from experiments.evaluation.perturbed import Perturbation
from experiments.runs.entries import is_number
from regjax.core.calls import read_named

EXAMPLE = "white_noise(sigma=(0.1, 0.2, 0.3))"
SEVERITIES = (1, 2, 3, 4, 5)


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
    levels, examples = _levels(name, given), _examples(name, given)
    options = _options(name, given)
    if name == "pgd" and options.get("norm", "linf") == "linf" and max(levels) > 1:
        raise ValueError(f"pgd's epsilon is of pixels from 0 to 1, such as 8 / 255, not {levels}.")
    return Perturbation(text, name, levels, tuple(sorted(options.items())), examples)


def check(config: Mapping[str, Any]) -> None:
    """Looks at `perturbations`, and at `published_robustness`: percent by method and name.

    Raises:
      ConfigError: a perturbation cannot be read or used, or published numbers are not its levels'.
    """
    known = read_all(config["perturbations"])
    for name, perturbation in known.items():
        stream = config["data"] == "stream"
        if stream and (perturbation.examples or perturbation.kind == "stored_corruption"):
            raise ConfigError(
                f"config.perturbations[{name!r}]: with config.data='stream' all test images are "
                "tested, and no stored ones: leave examples= out, and use corruption()."
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


def read_all(texts: Mapping[str, Any]) -> dict[str, Perturbation]:
    """Reads a config's `perturbations`, expressions by name.

    Raises:
      ConfigError: one cannot be read.
    """
    found = {}
    for name, text in texts.items():
        try:
            found[name] = read(text)
        except ValueError as error:
            raise ConfigError(f"config.perturbations[{name!r}]: {error}") from None
    return found


def _levels(name: str, given: dict[str, Any]) -> tuple[float, ...]:
    level, (low, high) = KINDS[name].level, KINDS[name].range
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


def _options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(KINDS[name].function).parameters.values())[2:]
    known = {p.name: p.default for p in parameters}
    unknown = [option for option in given if option not in known]
    if unknown:
        names = ", ".join([KINDS[name].level, *known, "examples"])
        raise ValueError(f"{name} has no {unknown[0]!r}; it takes: {names}.")
    if "name" in known and given.get("name") not in CORRUPTIONS:
        raise ValueError(
            f"{name} needs name=, one of: {', '.join(CORRUPTIONS)}, not {given.get('name')!r}."
        )
    for option, value in given.items():
        _check_option(name, option, value)
    return given


OPTIONS: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str),
    "protocol": lambda value: value in ("paper", "pixel"),
    "norm": lambda value: value in ("linf", "l2"),
    "std": lambda value: isinstance(value, tuple) and all(is_number(v) and v > 0 for v in value),
}


def _check_option(name: str, option: str, value: Any) -> None:
    fits = OPTIONS.get(option, lambda value: type(value) is int and 1 <= value <= 10**6)
    if not fits(value):
        example = {"protocol": "'paper' or 'pixel'", "norm": "'linf' or 'l2'"}.get(
            option, "positive numbers" if option == "std" else "a whole number of at least 1"
        )
        raise ValueError(f"{name}'s {option} must be {example}, not {value!r}.")
