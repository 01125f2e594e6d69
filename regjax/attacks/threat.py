"""What an attack is aimed at: the network, the images' bounds, and the losses to raise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from regjax.core.batch import Batch
from regjax.core.checks import (
    check_batch,
    check_bounds,
    check_logits,
    check_one_label,
    check_scalar,
)
from regjax.core.forward import Forward
from regjax.core.precision import wide
from regjax.core.stages import Number

# From logits and labels, both `[B, C]`, to `[B]`.
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def margin(logits: jax.Array, label: jax.Array) -> jax.Array:
    """`max_{j != y} z_j - z_y`, which is positive just where the example is classified wrong.

    Args:
      logits: `[B, C]`, at least two classes.
      label: Probabilities `[B, C]`; the true class y is the most probable one, the first of ties.

    Returns:
      `[B]`, in units of the logits; NaN, with a gradient of 0, where the label is all 0, so that no
      attack changes an image without a label.

    Example:
      >>> margin(jnp.array([[3.0, 1.0, 2.0]]), jnp.array([[1.0, 0.0, 0.0]])).tolist()
      [-1.0]
    """
    true = _true(label)
    found = jnp.max(jnp.where(true, -jnp.inf, logits), axis=-1) - _of(true, logits)
    return _where_labeled(label, found)


def log_odds(logits: jax.Array, label: jax.Array) -> jax.Array:
    """`log sum_{j != y} exp z_j - z_y = log((1 - p_y) / p_y)`, of which cross entropy is softplus.

    So the two rise together, and their gradients have one direction. But where the network is sure
    cross entropy's is 0 in floating point, and this one is not.

    Args:
      logits: as in `margin`.
      label: as in `margin`.

    Returns:
      `[B]`, nats.

    Example:
      >>> log_odds(jnp.array([[1e4, 0.0]]), jnp.array([[1.0, 0.0]])).tolist()
      [-10000.0]
    """
    true = _true(label)
    found = jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=-1) - _of(true, logits)
    return _where_labeled(label, found)


def slack(logits: jax.Array) -> jax.Array:
    """A hundred-thousandth of an example's largest logit, `[B]`.

    A margin below it may have the other sign where the image is looked at alone, or elsewhere.

    Example:
      >>> print(slack(jnp.array([[100.0, -200.0, -jnp.inf]])).round(4))
      [0.002]
    """
    return 1e-5 * jnp.max(jnp.where(jnp.isfinite(logits), jnp.abs(logits), 0), axis=-1)


def dlr(logits: jax.Array, label: jax.Array) -> jax.Array:
    """The difference-of-logits ratio: `margin / (z_(1) - z_(3))`, of the logits in falling order.

    Neither the scale of the logits nor a constant changes it. See "Reliable Evaluation of
    Adversarial Robustness with an Ensemble of Diverse Parameter-Free Attacks" (Croce and Hein,
    2020), eq. 6.

    Args:
      logits: `[B, C]`, at least three classes.
      label: as in `margin`.

    Returns:
      `[B]`, without a unit, at most 1; the margin itself where the three are equal.

    Example:
      >>> dlr(jnp.array([[5.0, 1.0, 3.0]]), jnp.array([[1.0, 0.0, 0.0]])).tolist()
      [-0.5]
    """
    top, _ = lax.top_k(logits, 3)
    return _where_labeled(label, _ratio(margin(logits, label), top[:, 0] - top[:, 2]))


def targeted_dlr(logits: jax.Array, label: jax.Array, wrong: jax.Array) -> jax.Array:
    """The targeted ratio: `(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)`, eq. 7 of `dlr`'s paper.

    Args:
      logits: `[B, C]`, at least four classes.
      label: as in `margin`.
      wrong: the class t that is aimed at, `[B]`.

    Returns:
      `[B]`, without a unit.

    Example:
      >>> logits, label = jnp.array([[5.0, 1.0, 2.0, 4.0]]), jnp.array([[1.0, 0.0, 0.0, 0.0]])
      >>> print(targeted_dlr(logits, label, jnp.array([1])).round(4))
      [-1.1429]
    """
    top, _ = lax.top_k(logits, 4)
    aimed = jax.nn.one_hot(wrong, logits.shape[-1], dtype=jnp.bool_)
    gain = _of(aimed, logits) - _of(_true(label), logits)
    return _where_labeled(label, _ratio(gain, top[:, 0] - (top[:, 2] + top[:, 3]) / 2))


class Ascent(NamedTuple):
    """A loss at images, and what raises it.

    Attributes:
      values: the loss, `[B]`.
      margins: the margins, `[B]`.
      slack: what margins may be by rounding, `[B]`, see `slack`.
      gradient: the gradient, `[B, ...]`; 0 where it is NaN, and the largest number for infinity.
    """

    values: jax.Array
    margins: jax.Array
    slack: jax.Array
    gradient: jax.Array


@dataclasses.dataclass(frozen=True)
class Target:
    """What is attacked: a network, examples independent of each other, and the images' bounds.

    Attributes:
      forward: the network, frozen.
      batch: its image clipped to the bounds, in float32 at least.
      low: the least value of a pixel.
      high: the largest value of a pixel.
    """

    forward: Forward
    batch: Batch
    low: float
    high: float

    def margins(self, image: jax.Array) -> jax.Array:
        """`margin` of the network at `image`, `[B]`."""
        return margin(self.logits(image), self.batch.label)

    def ascent(self, image: jax.Array, loss: Loss) -> Ascent:
        """What raises a loss at `image`: numbers, whatever the network's gradient is."""
        label = self.batch.label

        def total(image: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            logits = self.logits(image)
            values = loss(logits, label)
            return jnp.sum(values), (values, logits)

        gradient, (values, logits) = jax.grad(total, has_aux=True)(image)
        found = margin(logits, label), slack(logits)
        return Ascent(values, *found, jnp.nan_to_num(gradient))

    def logits(self, image: jax.Array) -> jax.Array:
        """The network's at `image`, `[B, C]`, in float32 at least."""
        logits = self.forward(image).logits
        check_logits(logits, self.batch)
        return wide(logits)


def aim(name: str, forward: Forward, batch: Batch, low: float, high: float) -> Target:
    """A `Target` for the attack called `name`.

    Raises:
      TypeError: the images or labels are not floating, or a bound is no Python number.
      ValueError: the shapes do not fit, there is one class only, `low` is not below `high`; outside
        of a trace also where an image that counts leaves the bounds by more than rounding.
    """
    check_batch(batch)
    check_one_label(batch, name)
    if batch.label.shape[-1] < 2:
        raise ValueError(f"{name} needs at least two classes, but labels are {batch.label.shape}.")
    if not all(isinstance(bound, int | float | np.number) for bound in (low, high)):
        raise TypeError(
            f"{name} needs low= and high= as Python numbers, the same for all pixels, got "
            f"low={low!r} and high={high!r}: where they differ by channel give pixels, and the "
            "network behind its normalisation, forward.after(normalise)."
        )
    low, high = float(low), float(high)
    if not low < high:
        raise ValueError(f"{name} needs low < high, got low={low} and high={high}.")
    check_bounds(
        batch.image,
        low,
        high,
        expects=f"{name} keeps images within [{low}, {high}]",
        remedy="give low= and high=, or pixels and the network behind its normalisation, "
        "forward.after(normalise)",
        weight=batch.weight,
    )
    image = wide(batch.image)
    clipped = batch.replace(image=jnp.clip(image, low, high), label=wide(batch.label))
    return Target(forward.frozen(), clipped, low, high)


def scalar(name: str, value: Number, like: jax.Array) -> jax.Array:
    """The number as an array of the image's dtype; refuses what is none, or is negative."""
    if not isinstance(value, int | float | np.number | np.ndarray | jax.Array):
        raise TypeError(f"{name} must be one number, such as 8 / 255, got {value!r}.")
    check_scalar(name, value)
    if not isinstance(value, jax.core.Tracer) and not value >= 0:
        raise ValueError(f"{name} must not be negative, but it is {value}.")
    return jnp.asarray(value, like.dtype)


def _true(label: jax.Array) -> jax.Array:
    return jax.nn.one_hot(jnp.argmax(label, axis=-1), label.shape[-1], dtype=jnp.bool_)


def _of(true: jax.Array, logits: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(true, logits, 0), axis=-1)


def _where_labeled(label: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.where(jnp.any(label > 0, axis=-1), values, jnp.nan)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    return a / jnp.where(b == 0, 1, b)
