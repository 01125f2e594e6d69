"""Schedules of optax as values: two that were built alike are equal and share one program."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """A function of the step, equal to another of the same code and the same numbers.

    What code and numbers are is known of optax's own schedules, and of those among what they are
    made of; any other function is equal to itself only.

    Attributes:
      function: `step -> number`.

    Example:
      >>> import optax
      >>> first, second = (Schedule(optax.constant_schedule(0.5)) for _ in range(2))
      >>> first == second, first
      (True, constant_schedule(value=0.5))
    """

    function: Callable[[Any], Any]
    # Taken once: optax's cosine writes into its own closure when it is first called.
    _same_as: Any = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Reads what tells the schedule from others."""
        object.__setattr__(self, "_same_as", _key(self.function))

    def __call__(self, step: Any) -> Any:
        """The number at a step."""
        return self.function(step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._same_as == other._same_as

    def __hash__(self) -> int:
        return hash(self._same_as)

    def __repr__(self) -> str:
        return _show(self.function)


def _key(value: Any) -> Any:
    """What is hashable and equal for equal schedules, and for equal parts of them."""
    if _is_of_optax(value):
        return value.__code__, tuple(map(_key, _parts(value).values()))
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_key, value))
    if isinstance(value, dict):
        return dict, tuple((_key(name), _key(each)) for name, each in value.items())
    if isinstance(value, int | float | str | np.generic | None):
        # Numbers that compare equal may still make other arrays; repr tells 0.0 from -0.0.
        return type(value), repr(value)
    if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer):
        return type(value), str(value.dtype), value.shape, np.asarray(value).tobytes()
    return _Same(value)


@dataclasses.dataclass(frozen=True, eq=False)
class _Same:
    """A value that is equal to itself only; holding it keeps its id its own."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _show(value: Any) -> str:
    if _is_of_optax(value):
        inside = ", ".join(f"{name}={_show(each)}" for name, each in _parts(value).items())
        return f"{value.__qualname__.split('.')[0]}({inside})"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(_show, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, types.FunctionType):
        return value.__qualname__
    return repr(value)


def _is_of_optax(value: Any) -> bool:
    """Whether it is a function that optax made, whose closure has all that tells it from others."""
    plain = isinstance(value, types.FunctionType) and not value.__defaults__
    return plain and not value.__kwdefaults__ and value.__module__.split(".")[0] == "optax"


def _parts(function: types.FunctionType) -> dict[str, Any]:
    """What the function closes over, by name."""
    cells = function.__closure__ or ()
    return {
        name: cell.cell_contents
        for name, cell in zip(function.__code__.co_freevars, cells, strict=True)
    }
