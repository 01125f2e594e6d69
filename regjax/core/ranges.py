"""The ranges of stages' numbers, stated in the annotations and checked where stages are made.

`Annotated[Number, Range(0, 1)]` is a number between 0 and 1, an array of such, or a schedule.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import jax
import numpy as np

# What a stage's function sees; the caller may also give an optax schedule, a function of the step.
Number = float | jax.Array


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a stage's argument may have, stated in its annotation.

    `low <= value <= high`, checked where the stage is made, of a Python number or of each entry of
    an array. Numbers that are traced and schedules are taken as they are. No number is NaN or
    infinite, whatever its range; `Range()` says that all others are meant.

    Attributes:
      low: the least value, included.
      high: the largest value, included.

    Example:
      >>> from typing import Annotated
      >>> import regjax as rj
      >>> @rj.wrapper
      ... def dim(forward, batch, *, amount: Annotated[rj.Number, rj.Range(0, 1)]):
      ...     return forward, batch.replace(image=(1 - amount) * batch.image)
      >>> dim(rj.cross_entropy(), amount=2)
      Traceback (most recent call last):
      ...
      ValueError: dim's amount must be between 0 and 1, but it is 2.
    """

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"at least {self.low}"
        if math.isinf(self.low):
            return f"at most {self.high}"
        return f"between {self.low} and {self.high}"

    def check(self, name: str, value: Any) -> None:
        """Refuses, unless it is traced, a number or an array that is not within the range.

        Args:
          name: of the number, for the error.
          value: a number, or an array of any shape.

        Raises:
          ValueError: there is an entry out of the range, or one that is not finite.
        """
        seen = _concrete(value)
        if seen is None or seen.size == 0:
            return
        if not np.all(np.isfinite(seen)):
            raise ValueError(f"{name} must be finite, but it {_one(seen, ~np.isfinite(seen))}.")
        outside = (seen < self.low) | (seen > self.high)
        if np.any(outside):
            raise ValueError(f"{name} must be {self}, but it {_one(seen, outside)}.")


AtLeastZero = Annotated[Number, Range(0)]
Share = Annotated[Number, Range(0, 1)]
Unbounded = Annotated[Number, Range()]
Count = Annotated[int, Range(1)]


def kinds(annotation: Any) -> Iterator[Any]:
    """The types of a union, each without what it is annotated with.

    Example:
      >>> list(kinds(Count | None))
      [<class 'int'>, <class 'NoneType'>]
    """
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from kinds(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for kind in typing.get_args(annotation):
            yield from kinds(kind)
    else:
        yield annotation


def range_of(annotation: Any) -> Range | None:
    """The range that an annotation states, alone or in a union; None where it states none.

    Example:
      >>> range_of(Share | None)
      Range(low=0, high=1)
    """
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return next((each for each in inside[1:] if isinstance(each, Range)), None)
    found = map(range_of, inside if origin in (typing.Union, types.UnionType) else ())
    return next((each for each in found if each is not None), None)


def _concrete(value: Any) -> np.ndarray | None:
    """The numbers, in float64; None where there are none to look at."""
    if isinstance(value, jax.core.Tracer) or not getattr(value, "is_fully_addressable", True):
        return None
    if isinstance(value, np.ndarray | jax.Array) and not jax.numpy.issubdtype(
        value.dtype, jax.numpy.number
    ):
        return None
    # Of NumPy, since the caller may be traced though the number is not.
    return np.asarray(value).astype(np.float64)


def _one(seen: np.ndarray, wrong: np.ndarray) -> str:
    return f"{'holds' if seen.ndim else 'is'} {seen[wrong].flat[0]:.8g}"
