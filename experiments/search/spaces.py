"""What is searched: for each name in braces in a loss, the values that may stand there.

A space is written as `log(low=0.001, high=1.0)`, `uniform(low=0, high=1)`, `whole(low=1, high=4)`
or `policy(subs=5)`; numbers may have a `start`, the value of the config as it stands.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from optuna import distributions

from experiments import ConfigError, is_number
from regjax.augment.strengths import NAMES
from regjax.core.calls import read_named

EXAMPLE = "log(low=0.001, high=1.0)"
Distributions = dict[str, distributions.BaseDistribution]
Params = Mapping[str, Any]


class Space(Protocol):
    """The values that a name may stand for, as parameters of a search."""

    def distributions(self, name: str) -> Distributions:
        """The parameters."""

    def text(self, name: str, params: Params) -> str:
        """The literal of these parameters."""

    def start(self, name: str) -> dict[str, Any] | None:
        """The parameters of the config as it stands; None where nobody has said them."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers between two; whole ones, or by their logarithms."""

    low: float
    high: float
    first: float | None = None
    log: bool = False
    whole: bool = False

    def distributions(self, name: str) -> Distributions:
        """One parameter, of that name."""
        if self.whole:
            return {name: distributions.IntDistribution(int(self.low), int(self.high))}
        return {name: distributions.FloatDistribution(self.low, self.high, log=self.log)}

    def text(self, name: str, params: Params) -> str:
        """The number, with four digits, as long as that is within the space."""
        if self.whole:
            return repr(int(params[name]))
        rounded = float(f"{params[name]:.4g}")
        return repr(min(max(rounded, float(self.low)), float(self.high)))

    def start(self, name: str) -> dict[str, Any] | None:
        """That number."""
        return None if self.first is None else {name: self.first}


@dataclasses.dataclass(frozen=True)
class Policies:
    """The policies of so many pairs of operations."""

    subs: int

    def distributions(self, name: str) -> Distributions:
        """Of each operation its name and its magnitude."""
        found: Distributions = {}
        for operation, magnitude in self._each(name):
            found[operation] = distributions.CategoricalDistribution(NAMES)
            found[magnitude] = distributions.FloatDistribution(0.0, 1.0, step=0.01)
        return found

    def text(self, name: str, params: Params) -> str:
        """The pairs, as `policy`'s `sub` takes them."""
        flat = [(params[o], round(params[m], 2)) for o, m in self._each(name)]
        return repr(tuple((*a, *b) for a, b in zip(flat[::2], flat[1::2], strict=True)))

    def start(self, name: str) -> dict[str, Any]:
        """No augmentation: rotations by nothing."""
        each = self._each(name)
        return {k: v for o, m in each for k, v in ((o, "rotate"), (m, 0.0))}

    def _each(self, name: str) -> list[tuple[str, str]]:
        places = [f"{name}.{i}.{j}" for i in range(self.subs) for j in (0, 1)]
        return [(f"{place}.operation", f"{place}.magnitude") for place in places]


@dataclasses.dataclass(frozen=True)
class Template:
    """A loss with names in braces, and what they may stand for."""

    loss: str
    spaces: Mapping[str, Space]

    def distributions(self) -> Distributions:
        """All parameters of the search."""
        return {k: v for n, s in self.spaces.items() for k, v in s.distributions(n).items()}

    def expression(self, params: Params) -> str:
        """The loss of these parameters."""
        loss = self.loss
        for name, space in self.spaces.items():
            loss = loss.replace(f"{{{name}}}", space.text(name, params))
        return loss

    def start(self) -> dict[str, Any] | None:
        """The parameters of the config as it stands; None where a number has no `start`."""
        each = [space.start(name) for name, space in self.spaces.items()]
        if any(params is None for params in each):
            return None
        return {k: v for params in each for k, v in (params or {}).items()}


def template(losses: Mapping[str, Any], spaces: Any) -> tuple[str, Template]:
    """The method that is searched for, and its template.

    Args:
      losses: of the config; one.
      spaces: by name, `config.search.spaces`.

    Raises:
      ConfigError: there is not one loss, its names in braces are not those of the spaces, or a
        space cannot be read.
    """
    if len(losses) != 1:
        raise ConfigError(
            "A search is of one loss with names in braces, such as 'cross_entropy | "
            f"l2(weight={{weight}})', but config.losses has {len(losses)}."
        )
    ((method, loss),) = losses.items()
    if not isinstance(spaces, Mapping) or not spaces:
        raise ConfigError(
            "config.search.spaces must say what is searched, such as {'weight': "
            f"'{EXAMPLE}'}}, but it is {spaces!r}."
        )
    named = dict.fromkeys(re.findall(r"\{(\w+)\}", str(loss)))
    for name in (*named, *spaces):
        if name not in named:
            raise ConfigError(
                f"config.search.spaces names {name!r}, but config.losses.{method} has no "
                f"{{{name}}}: {loss!r}."
            )
        if name not in spaces:
            raise ConfigError(
                f"config.losses.{method} has {{{name}}}, but config.search.spaces has no {name!r}: "
                f"add it, such as '{EXAMPLE}'."
            )
    return method, Template(str(loss), {name: read(name, spaces[name]) for name in named})


def read(name: str, text: Any) -> Space:
    """A space, by its text.

    Raises:
      ConfigError: it cannot be read, is empty, or lacks a number.
    """
    where = f"config.search.spaces.{name}"
    try:
        kind, given = read_named(text if isinstance(text, str) else repr(text), "space", EXAMPLE)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if kind == "policy":
        _check_arguments(where, kind, given, ("subs",), ())
        if type(given["subs"]) is not int or given["subs"] < 1:
            raise ConfigError(
                f"{where}: policy's subs must be a whole number, 1 or more, but it is "
                f"{given['subs']!r}."
            )
        return Policies(given["subs"])
    if kind not in ("log", "uniform", "whole"):
        raise ConfigError(
            f"{where}: there is no space {kind!r}; there are: log, policy, uniform, whole."
        )
    _check_arguments(where, kind, given, ("low", "high"), ("start",))
    return _numbers(where, kind, given)


def _check_arguments(
    where: str, kind: str, given: Params, needed: Sequence[str], more: Sequence[str]
) -> None:
    if not {*needed} <= {*given} <= {*needed, *more}:
        raise ConfigError(
            f"{where}: {kind} takes {', '.join((*needed, *more))}, but it was given "
            f"{', '.join(given) or 'nothing'}."
        )


def _numbers(where: str, kind: str, given: Params) -> Numbers:
    low, high, start = given["low"], given["high"], given.get("start")
    for value in (low, high, *([] if start is None else [start])):
        right = is_number(value) and math.isfinite(value)
        if not right or (kind == "whole" and value != int(value)):
            what = "whole numbers" if kind == "whole" else "numbers"
            raise ConfigError(f"{where}: {kind} is of {what}, but it was given {value!r}.")
    if not low < high or (kind == "log" and not low > 0):
        above = " and low above 0" if kind == "log" else ""
        raise ConfigError(
            f"{where}: {kind} needs low below high{above}, but they are {low} and {high}."
        )
    if start is not None and not low <= start <= high:
        raise ConfigError(f"{where}: start must be between {low} and {high}, but it is {start}.")
    return Numbers(low, high, start, log=kind == "log", whole=kind == "whole")
