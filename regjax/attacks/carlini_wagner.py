"""The attack of Carlini and Wagner: the smallest change in the Euclidean norm that misleads."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from regjax.attacks.nearest import Found, nearer, square_distance
from regjax.attacks.threat import Target, aim, margin, scalar, slack
from regjax.core.batch import Batch
from regjax.core.checks import check_count
from regjax.core.forward import Forward
from regjax.core.stages import Number

# How far from the middle a pixel at a bound starts: at the bound the derivative of tanh is 0, and
# next to it Adam takes hundreds of steps to leave.
_INSIDE = 0.999


class _Search(NamedTuple):
    """Per example `[B]`: the constant to try, the largest that failed, the least that did not."""

    constant: jax.Array
    failed: jax.Array
    worked: jax.Array


def cw_l2(
    forward: Forward,
    batch: Batch,
    *,
    confidence: Number = 0.0,
    steps: int = 300,
    search_steps: int = 9,
    learning_rate: Number = 0.1,
    initial_constant: Number = 1.0,
    low: float = 0.0,
    high: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """The L2 attack of Carlini and Wagner: the nearest image that is classified wrong.

    Minimises `||x' - x||^2 + c max(z_y - max_{j != y} z_j, -confidence)` over `w` with
    `x' = low + (high - low) (tanh(w) + 1) / 2`, the norm in units of `high - low`, by Adam, started
    anew for each of several constants c. See "Towards Evaluating the Robustness of Neural Networks"
    (Carlini and Wagner, 2017), sections V and VI.

    Each example has a constant of its own: ten times as large while none worked, a tenth while all
    did, in between the geometric mean of the largest that failed and the least that worked, so that
    the scale of the logits does not matter. It worked if an image of the later half of its steps
    misleads; earlier ones may overshoot whatever the constant. Adam's rate falls to 0 as half a
    cosine, so that the last steps settle; the paper takes 10,000 of a constant rate.

    The nearest image of all steps is kept that is classified wrong, and by a margin of at least
    `confidence`, and of 1e-5 of its largest logit, so that it misleads too where it is looked at
    alone. An image that is so already is returned as it is.

    Costs about `2 steps search_steps` forward passes in FLOPs.

    Args:
      forward: the network (positional, as is `batch`).
      batch: images within `[low, high]`; the class attacked is the label's most probable one. An
        image whose label is all 0 is returned as it is.
      confidence: the least margin between the logits of the wrong class and of the true one.
      steps: Adam's, for each constant, static.
      search_steps: how many constants are tried, static.
      learning_rate: Adam's, in units of `w`.
      initial_constant: the first c; 1 is between those of large and of small logits.
      low: the least value of a pixel, static under `jax.jit`.
      high: the largest, static under `jax.jit`.

    Returns:
      Images `[B, ...]`, in float32 at least, and whether each is misleading, `[B]` booleans. Where
      no misleading image was found it is the example's own.

    Raises:
      TypeError: steps are no integers; the images or labels are not floating.
      ValueError: steps are less than 1, the shapes do not fit, or `low >= high`; outside of a trace
        also where images leave the bounds by more than rounding; they are clipped to the bounds.

    Example:
      >>> import jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.array([[0.6, 0.4]]), jnp.array([[1.0, 0.0]]))
      >>> image, success = rj.attacks.cw_l2(forward, batch, steps=200)
      >>> print(image.round(2), success)
      [[0.5 0.5]] [ True]
    """
    check_count("steps", steps)
    check_count("search_steps", search_steps)
    target = aim("cw_l2", forward, batch, low, high)
    image = target.batch.image
    problem = _Problem(target, scalar("confidence", confidence, image))
    rate = scalar("learning_rate", learning_rate, image)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    start = problem.start()

    def attack(constant: jax.Array, found: Found) -> tuple[Found, jax.Array]:
        def step(number: jax.Array, carry: Any) -> Any:
            w, state, found, worked = carry
            gradient, (x, misled) = jax.grad(problem.objective, has_aux=True)(w, constant)
            updates, state = optimizer.update(jnp.nan_to_num(gradient), state)
            worked |= misled & (2 * number >= steps)
            found = nearer(found, image, x, misled)
            return optax.apply_updates(w, updates), state, found, worked

        carry = start, optimizer.init(start), found, jnp.zeros_like(found.distance, bool)
        return lax.fori_loop(0, steps, step, carry)[2:]

    def search(_: int, carry: tuple[_Search, Found]) -> tuple[_Search, Found]:
        progress, found = carry
        found, worked = attack(progress.constant, found)
        return _next(progress, worked), found

    _, misled = problem.behind(image)
    nothing = jnp.full(misled.shape, jnp.inf, image.dtype)
    first = jnp.full_like(nothing, scalar("initial_constant", initial_constant, image))
    found = nearer(Found(image, nothing), image, image, misled)
    progress = _Search(first, jnp.zeros_like(nothing), nothing)
    _, found = lax.fori_loop(0, search_steps, search, (progress, found))
    return found.image, jnp.isfinite(found.distance)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """What is minimised, as a function of `w`, and what counts as found."""

    target: Target
    confidence: jax.Array

    def start(self) -> jax.Array:
        image, low, high = self.target.batch.image, self.target.low, self.target.high
        return jnp.arctanh(_INSIDE * (2 * (image - low) / (high - low) - 1))

    def objective(
        self, w: jax.Array, constant: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        low, high = self.target.low, self.target.high
        x = jnp.clip(low + (high - low) * (jnp.tanh(w) + 1) / 2, low, high)
        behind, misled = self.behind(x)
        value = square_distance(x, self.target.batch.image) / (high - low) ** 2
        return jnp.sum(value + constant * jnp.maximum(behind, 0)), (x, misled)

    def behind(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the margins lack, `[B]`, and whether `x` misleads, `[B]`."""
        logits = self.target.logits(x)
        margins = margin(logits, self.target.batch.label)
        least = jnp.maximum(self.confidence, lax.stop_gradient(slack(logits)))
        return least - margins, (margins >= least) & (margins > 0)


def _next(search: _Search, worked: jax.Array) -> _Search:
    """What to try next, given whether the constant worked."""
    failed = jnp.where(worked, search.failed, search.constant)
    least = jnp.where(worked, search.constant, search.worked)
    between = jnp.sqrt(failed) * jnp.sqrt(least)
    constant = jnp.where(jnp.isinf(least), 10 * failed, jnp.where(failed == 0, least / 10, between))
    return _Search(constant, failed, least)
