"""Numbers of a loss that grow with the steps to what they are, by named curves.

growing = {"isda": {"strength": "linear"}, "mean_teacher": {"weight": "sigmoid(epochs=80)"}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import regjax as rj
from experiments import ConfigError
from regjax.core.calls import read_named

EXAMPLE = "sigmoid(epochs=80)"


def _linear(t: jax.Array) -> jax.Array:
    return t


def _sigmoid(t: jax.Array) -> jax.Array:
    """See "Temporal Ensembling for Semi-Supervised Learning" (Laine and Aila, 2017), section 3."""
    return jnp.exp(-5 * (1 - t) ** 2)


def _cosine(t: jax.Array) -> jax.Array:
    return (1 - jnp.cos(jnp.pi * t)) / 2


SHAPES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": _linear,
    "sigmoid": _sigmoid,
    "cosine": _cosine,
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """How a number of the loss grows.

    Attributes:
      number: the name of the number that grows, "stage.argument".
      shape: the shape of the curve, one of `SHAPES`, functions from [0, 1] to [0, 1].
      steps: the number of steps after which it stays what it is; None for the whole run.
      idle: the number of steps at first in which it is 0 all the same.
      start: what stands in the place of the shape's 0; above 1 the number falls to what it is.
    """

    number: str
    shape: str
    steps: float | None = None
    idle: float = 0.0
    start: float = 0.0

    def share(self, step: jax.Array, steps: int) -> jax.Array:
        """The part of the number at a step of a run of `steps`, float32 `[]`, at least 0."""
        end = steps if self.steps is None else self.steps
        grown = SHAPES[self.shape](jnp.minimum(step / max(end, 1), 1))
        grown = self.start + (1 - self.start) * grown if self.start else grown
        return jnp.where(step < self.idle, 0.0, grown) if self.idle else grown


def read_curves(growing: Mapping[str, Any], steps_per_epoch: float) -> tuple[Curve, ...]:
    """The curves that a config names.

    Args:
      growing: by number, as "stage.argument", an expression: "linear", "sigmoid"
        (`exp(-5 (1-t)^2)`) or "cosine"; each may say `epochs=`, after which the number has grown,
        and otherwise takes the whole run; `start=`, a part of the number in the place of 0, such as
        2 for one that begins at twice what it is; and `idle=`, the first epochs in which it is 0
        all the same, such as the first one in Laine and Aila's program.
      steps_per_epoch: steps in an epoch.

    Raises:
      ConfigError: an unknown curve, or arguments that it does not take.

    Example:
      `read_curves({"isda.strength": "sigmoid(epochs=80)"}, steps_per_epoch=391)`
    """
    return tuple(_curve(number, text, steps_per_epoch) for number, text in growing.items())


def _curve(number: str, text: Any, steps_per_epoch: float) -> Curve:
    try:
        shape, given = read_named(str(text), "curve", EXAMPLE)
    except ValueError as error:
        raise ConfigError(f"config.growing of {number!r}: {error}") from None
    epochs, idle, start = given.pop("epochs", None), given.pop("idle", 0), given.pop("start", 0)
    is_known = epochs is None or (type(epochs) in (int, float) and epochs > 0)
    is_known = is_known and all(type(x) in (int, float) and x >= 0 for x in (idle, start))
    if shape not in SHAPES or given or not is_known:
        raise ConfigError(
            f"config.growing of {number!r} is {text!r}, but a number grows as "
            f"{', '.join(SHAPES)}, each with epochs= above 0 or nothing, such as {EXAMPLE!r}, with "
            "idle= where it is 0 in the first epochs, and with start= where another part than 0 of "
            "the number is to be its beginning."
        )
    steps = None if epochs is None else epochs * steps_per_epoch
    return Curve(number, shape, steps, idle * steps_per_epoch, start)


def grown(loss: rj.Loss, curves: Sequence[Curve], step: jax.Array, steps: int) -> rj.Loss:
    """The loss as it is at a step of a run.

    Args:
      loss: with its numbers as they are in the end; still pytree leaves in what is returned.
      curves: of some of them; those that this loss does not have do nothing.
      step: int32 `[]`, the steps taken.
      steps: of the whole run.
    """
    if not curves:
        return loss
    shares = {curve.number: curve.share(step, steps) for curve in curves}

    def stage(name: str, stage: Any) -> Any:
        scaled = {
            argument: value * shares[number]
            if (number := f"{name}.{argument}") in shares
            else value
            for argument, value in stage.arguments.items()
        }
        return dataclasses.replace(stage, arguments=scaled)

    return rj.Loss(tuple(stage(name, each) for name, each in loss.named()))
