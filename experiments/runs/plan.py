"""A comparison as a list of runs, and its checks; what became of them is in journal.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import regjax as rj
from experiments import LARGEST, ConfigError, is_number
from experiments.evaluation import perturbation_entries, views
from experiments.runs.entry_checks import check, check_distinct
from experiments.runs.entry_values import growing
from experiments.training.growth import read_curves

Parse = Callable[[str], Any]
PLACEHOLDER = "{strength}"
# A list of more runs than anybody trains would take all memory.
MOST_RUNS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Run:
    """One network to train: a method at a training size, a strength and a seed."""

    method: str
    loss: str
    train_size: int
    strength: float | None
    seed: int


FIELDS = tuple(field.name for field in dataclasses.fields(Run))


def plan(config: Mapping[str, Any], parse: Parse = rj.parse) -> list[Run]:
    """All runs of a config, methods first, then sizes, strengths and seeds.

    Args:
      config: with all entries.
      parse: from an entry of `config.losses` to the objective.

    Raises:
      ConfigError: an entry is missing, out of range or repeated, a method's loss and strengths do
        not fit each other, or a loss does not parse.
    """
    check(config)
    perturbation_entries.check(config)
    views.read(config["views"])
    unknown = sorted(set(config["strengths"]) - set(config["losses"]))
    if unknown:
        raise ConfigError(f"config.strengths has {unknown}, which config.losses has not.")
    losses = {method: list(_losses(config, method, parse)) for method in config["losses"]}
    count = sum(map(len, losses.values())) * len(config["train_sizes"]) * config["seeds"]
    if count > MOST_RUNS:
        raise ConfigError(f"The config has {count} runs, which are more than {MOST_RUNS}.")
    every = [loss for each in losses.values() for _, loss in each]
    for name, curve in growing(config["growing"]).items():
        _check_growing(name, curve, every)
    return [
        Run(method, repr(loss), size, strength, seed)
        for method, each in losses.items()
        for size in config["train_sizes"]
        for strength, loss in each
        for seed in range(config["seeds"])
    ]


def _losses(
    config: Mapping[str, Any], method: str, parse: Parse
) -> Iterator[tuple[float | None, Any]]:
    template = config["losses"][method]
    if not isinstance(template, str):
        raise ConfigError(
            f"config.losses.{method} must be an expression such as 'cross_entropy', but it is "
            f"{template!r}."
        )
    for strength in _strengths(config, method, template):
        yield strength, _loss(method, template.replace(PLACEHOLDER, repr(strength)), parse)


def _strengths(config: Mapping[str, Any], method: str, template: str) -> tuple[float | None, ...]:
    given = config["strengths"].get(method, ())
    if not isinstance(given, tuple | list) or not all(map(is_number, given)):
        raise ConfigError(
            f"config.strengths.{method} must be a tuple of finite numbers, such as (0.1, 1.0), "
            f"but it is {given!r}."
        )
    if PLACEHOLDER not in template:
        if given:
            raise ConfigError(
                f"config.losses.{method} has no {PLACEHOLDER}, but config.strengths.{method} names "
                f"{given}: write {PLACEHOLDER} into the loss, or () for the strengths."
            )
        return (None,)
    if not given:
        raise ConfigError(
            f"config.losses.{method} has a {PLACEHOLDER}, but config.strengths.{method} names none."
        )
    if not min(given) > 0:
        raise ConfigError(
            f"Strengths must be positive, but config.strengths.{method} is {given}: a "
            "strength of 0 is the baseline, a method of its own."
        )
    strengths = tuple(map(float, given))
    check_distinct(f"strengths.{method}", strengths)
    return strengths


def _loss(method: str, text: str, parse: Parse) -> Any:
    try:
        loss = parse(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"config.losses.{method}: {error}") from None
    for name, argument, value in _arguments(loss):
        if isinstance(value, float) and abs(value) > LARGEST:
            raise ConfigError(
                f"config.losses.{method}: {name}'s {argument} must not be beyond float32, but it "
                f"is {value}."
            )
    return loss


def _arguments(loss: Any) -> Iterator[tuple[str, str, Any]]:
    """Stage, name and value of every argument of a loss; other objectives check their own."""
    for name, stage in loss.named() if isinstance(loss, rj.Loss) else ():
        for argument, value in stage.arguments.items():
            yield name, argument, value


def _check_growing(name: str, curve: Any, losses: Sequence[Any]) -> None:
    each = [argument for loss in losses for argument in _arguments(loss)]
    values = [value for stage, argument, value in each if f"{stage}.{argument}" == name]
    if not values or not all(isinstance(value, float) for value in values):
        raise ConfigError(
            f"config.growing names {name!r}, but can only name numbers that the losses are given, "
            "as 'stage.argument', such as 'isda.strength'."
        )
    _check_start(name, max(read_curves({name: curve}, 1.0)[0].start, 1.0), losses)


def _check_start(name: str, largest: float, losses: Sequence[Any]) -> None:
    """Refuses a number that is out of its range at that multiple of what it is."""
    of_stage, argument = name.rsplit(".", 1)
    stages = [each for loss in losses if isinstance(loss, rj.Loss) for each in loss.named()]
    for stage in [stage for named, stage in stages if named == of_stage]:
        begun = stage.arguments | {argument: stage.arguments[argument] * largest}
        try:
            stage.definition.bind(begun)
        except ValueError as error:
            raise ConfigError(f"config.growing of {name!r}, where it begins: {error}") from None
