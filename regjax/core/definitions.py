"""What a stage is: a function, what a decorator read off it, and its arguments.

The decorators are in `stages.py`, which also says what a stage function looks like.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from regjax.core.calls import imported
from regjax.core.ranges import Number, Range, kinds, range_of
from regjax.core.schedules import Schedule

__all__ = ["REGISTRY", "Definition", "Number", "Stage"]

# Strings are what annotations are that cannot be evaluated.
_NUMBERS = (inspect.Parameter.empty, float, jax.Array, "float", "Number", "rj.Number")
_WORDS = {frozenset({int}): "a whole number, such as 2", frozenset({bool}): "True or False"}
REGISTRY: dict[str, Definition] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Definition:
    """A stage function and what the decorator read off it.

    `written` is its name in expressions, where that is a `module:name`.
    """

    kind: str
    name: str
    function: Callable[..., Any]
    init: Callable[..., Any] | None
    inputs: tuple[str, ...]
    arguments: dict[str, inspect.Parameter]
    over: str = "batch"
    written: str = ""
    begin: Callable[..., Any] | None = None

    def __reduce__(self) -> Any:
        # By name, since the module holds the transform in the place of the plain function.
        return definition, (self.written or self.name,)

    def is_number(self, argument: str) -> bool:
        """Whether the argument is a leaf of the loss's pytree."""
        return any(kind in _NUMBERS for kind in kinds(self.arguments[argument].annotation))

    def range(self, argument: str) -> Range | None:
        """What the argument's annotation says of its values; None where it says nothing."""
        return range_of(self.arguments[argument].annotation)

    def bind(self, given: dict[str, Any]) -> Stage:
        """A stage of these arguments, which are checked.

        Raises:
          TypeError: an unknown or missing argument, a number that is none, a static argument that
            is not hashable.
          ValueError: a number that is not finite or out of its range, unless it is traced; a count
            that is not whole, a switch that is no bool.
        """
        known = ", ".join(self.arguments) or "none"
        unknown = [name for name in given if name not in self.arguments]
        if unknown:
            raise TypeError(
                f"{self.name} has no argument {unknown[0]!r}; its arguments are: {known}."
            )
        values = {name: p.default for name, p in self.arguments.items()} | given
        missing = [name for name, value in values.items() if value is inspect.Parameter.empty]
        if missing:
            raise TypeError(
                f"{self.name} needs the argument {missing[0]!r}; its arguments are: {known}."
            )
        checked = {
            name: self._number(name, value) if self.is_number(name) else self._static(name, value)
            for name, value in values.items()
        }
        return Stage(self, checked)

    def _number(self, name: str, value: Any) -> Any:
        value = _concrete(value)
        if value is None and self.arguments[name].default is None:
            return None
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            value = _float(value)
        elif callable(value) and not hasattr(value, "definition"):
            return value if isinstance(value, Schedule) else Schedule(value)
        if isinstance(value, float) or hasattr(value, "dtype"):
            (self.range(name) or Range()).check(f"{self.name}'s {name}", value)
            return value
        raise TypeError(
            f"{self.name}'s {name} must be a number, an array or an optax schedule, "
            f"but it is {value!r}."
        )

    def _static(self, name: str, value: Any) -> Any:
        value = _tupled(value)
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"{self.name}'s {name} is part of the loss's structure and must be hashable, such "
                f"as a string, an int or a tuple, but it is {value!r}; an argument annotated "
                "Number, or not at all, may be an array."
            ) from None
        self._check_kind(name, value)
        stated = self.range(name)
        if stated is not None and isinstance(value, int | float) and not isinstance(value, bool):
            stated.check(f"{self.name}'s {name}", value)
        return value

    def _check_kind(self, name: str, value: Any) -> None:
        """Refuses a count that is not whole, and a switch that is neither on nor off."""
        stated = set(kinds(self.arguments[name].annotation))
        expected = _WORDS.get(frozenset(stated - {type(None)}))
        if expected is None or (value is None and type(None) in stated):
            return
        if type(value) not in stated:
            expected = f"None or {expected}" if type(None) in stated else expected
            raise ValueError(f"{self.name}'s {name} must be {expected}, but it is {value!r}.")


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """One link of a loss: a definition with its arguments."""

    definition: Definition
    arguments: dict[str, Any]

    def run(self, step: jax.Array, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """The value of the stage's function, and its next state."""
        definition = self.definition
        known = inputs | {"step": step}
        positional = [known[name] for name in definition.inputs]
        out = definition.function(*positional, **self.keywords(step))
        if definition.init is not None:
            _check_pair(out, f"{definition.name} asks for state and must return (value, state)")
            out, state = out
        else:
            state = None
        if definition.kind == "wrapper":
            _check_pair(out, f"the wrapper {definition.name} must return (forward, batch)")
        return out, state

    def keywords(self, step: jax.Array) -> dict[str, Any]:
        """What the stage's own function is given by keyword at a step."""
        applied = ("weight",) if self.definition.kind == "penalty" else ()
        return {name: self._at(name, step) for name in self.arguments if name not in applied}

    def weight(self, step: jax.Array) -> Any:
        """The strength of a penalty at a step."""
        weight = self._at("weight", step)
        if np.ndim(weight):
            raise ValueError(
                f"{self.definition.name}'s weight must be a scalar where the loss is applied, but "
                f"it is {_show(weight)}: run stacked losses with jax.vmap."
            )
        return weight

    def _at(self, name: str, step: jax.Array) -> Any:
        value = self.arguments[name]
        return value(step) if self.definition.is_number(name) and callable(value) else value

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Numbers are leaves, all else (and schedules) is structure."""
        leaf = {
            name: self.definition.is_number(name) and not callable(value)
            for name, value in self.arguments.items()
        }
        leaves = [
            (jax.tree_util.GetAttrKey(f"{self.definition.name}.{name}"), value)
            for name, value in self.arguments.items()
            if leaf[name]
        ]
        static = tuple(
            (name, None if leaf[name] else value) for name, value in self.arguments.items()
        )
        names = tuple(name for name in leaf if leaf[name])
        return leaves, (self.definition, names, static)

    @classmethod
    def tree_unflatten(cls, structure: Any, leaves: Any) -> Stage:
        """The inverse of `tree_flatten_with_keys`."""
        definition, names, static = structure
        return cls(definition, dict(static) | dict(zip(names, leaves, strict=True)))

    def __repr__(self) -> str:
        shown = {
            name: value
            for name, value in self.arguments.items()
            if isinstance(value, jax.Array | np.ndarray)
            or value != self.definition.arguments[name].default
        }
        name = self.definition.written or self.definition.name
        if not shown:
            return name
        inside = ", ".join(f"{name}={_show(value)}" for name, value in shown.items())
        return f"{name}({inside})"


def definition(name: str) -> Definition:
    """The definition of a stage, by its name in expressions.

    Args:
      name: a registered one, or `module:name` of a stage in a module that has been imported.

    Raises:
      ValueError: there is none.
    """
    if ":" in name:
        found = getattr(imported(name), "definition", None)
        if not isinstance(found, Definition):
            raise ValueError(
                f"{name!r} is no stage: it needs one of the decorators base, wrapper and penalty."
            )
        return _written(found, name)
    if name not in REGISTRY:
        raise ValueError(f"unknown stage {name!r}: import the module that defines it.")
    return REGISTRY[name]


@functools.cache  # so that equal expressions are equal losses, which share a compiled program
def _written(found: Definition, name: str) -> Definition:
    return dataclasses.replace(found, written=name)


def _concrete(value: Any) -> Any:
    """Scalars become Python's, so that numbers of every kind share one compiled program."""
    scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0
    return value.item() if scalar and not isinstance(value, jax.core.Tracer) else value


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list | tuple) else _concrete(value)


def _show(value: Any) -> str:
    if isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0:
        value = _concrete(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)


def _check_pair(value: Any, expected: str) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"{expected}, but it returned {type(value).__name__}.")
