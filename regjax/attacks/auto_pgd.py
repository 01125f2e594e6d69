"""Projected gradient descent that finds its step sizes by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from regjax.attacks.ascent import BALLS, Best, check_norm, worse
from regjax.attacks.balls import L2, LInf
from regjax.attacks.threat import Loss, Target, aim, dlr, log_odds, scalar, targeted_dlr
from regjax.core.batch import Batch, example_keys
from regjax.core.checks import check_count
from regjax.core.forward import Forward
from regjax.core.stages import Number

# The losses by name, and how many classes they need.
LOSSES = {"cross_entropy": 2, "dlr": 3, "targeted_dlr": 4}

_MOMENTUM = 0.75  # the share of a step that is along the gradient, the rest along the last step
_RISING = 0.75  # the share of the steps between two checkpoints that must raise the loss


def apgd(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    epsilon: Number,
    steps: int = 100,
    loss: str = "cross_entropy",
    norm: str = "linf",
    restarts: int = 1,
    low: float = 0.0,
    high: float = 1.0,
) -> jax.Array:
    """Auto-PGD: projected gradient descent with momentum whose steps halve where they do not help.

    `z = project(x + eta s)`, `x <- project(x + 0.75 (z - x) + 0.25 (x - x_before))`, with `s` as in
    `pgd` and `eta = 2 epsilon` at first. At checkpoints (`checkpoints`) an example's eta halves,
    and it goes back to its best image, where less than 0.75 of the steps since the last one raised
    its loss, or where neither its eta nor its best loss has changed since. See "Reliable Evaluation
    of Adversarial Robustness with an Ensemble of Diverse Parameter-Free Attacks" (Croce and Hein,
    2020), algorithm 1. Starts, projections and what is returned are as in `pgd`.

    The losses are cross entropy, in the form of `fgsm`; `threat.dlr`, the difference-of-logits
    ratio, which is stronger where the network's confidence misleads; and `threat.targeted_dlr`,
    stronger still, whose restarts are aimed at the likeliest wrong class, the second, and so on:
    the paper takes nine.

    Costs about 2 times a forward pass in FLOPs a step, and as much more a restart.

    Args:
      forward: the network (positional, as are `batch` and `key`).
      batch: as in `fgsm`.
      key: draws the starts.
      epsilon: the radius of the ball: the largest change of a pixel, or the Euclidean norm of all.
      steps: how many a restart, static.
      loss: `"cross_entropy"`, `"dlr"` or `"targeted_dlr"`, static.
      norm: `"linf"` or `"l2"`, static.
      restarts: how many, static.
      low: as in `fgsm`.
      high: as in `fgsm`.

    Returns:
      `[B, ...]` like the image, in float32 at least, in the ball up to rounding.

    Raises:
      TypeError: steps or restarts are no integers; the images or labels are not floating.
      ValueError: the norm or the loss is unknown, dlr has less than three classes or targeted_dlr
        less than four, steps or restarts are less than 1; and as in `fgsm`.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.array([[0.6, 0.4]]), jnp.array([[1.0, 0.0]]))
      >>> key = jax.random.key(0)
      >>> print(rj.attacks.apgd(forward, batch, key, epsilon=0.25, steps=5).round(4))
      [[0.35 0.65]]
    """
    check_count("steps", steps)
    check_count("restarts", restarts)
    check_norm("apgd", norm)
    target = aim("apgd", forward, batch, low, high)
    _check_loss(loss, target)
    image = target.batch.image
    ball = BALLS[norm](image, scalar("epsilon", epsilon, image), low, high)
    losses = losses_of(loss, target)

    def restart(number: jax.Array, best: Best) -> Best:
        return worse(best, *climb(target, ball, key, number, losses(number), steps))

    return lax.fori_loop(0, restarts, restart, (image, target.margins(image)))[0]


def checkpoints(steps: int) -> list[int]:
    """After how many steps step sizes may halve.

    `ceil(p_j steps)` of `p_0 = 0`, `p_1 = 0.22`, `p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)`.

    Example:
      >>> checkpoints(100)
      [22, 41, 57, 70, 80, 87, 93, 99]
    """
    before, share, found = 0.0, 0.22, []
    while share < 1:
        found.append(math.ceil(round(share * steps, 9)))  # 0.57 * 100 is more than 57
        before, share = share, share + max(share - before - 0.03, 0.06)
    return sorted(set(found) - {steps})


def losses_of(loss: str, target: Target) -> Callable[[jax.Array], Loss]:
    """What each restart ascends.

    Args:
      loss: "cross_entropy" or "dlr", one for all; or "targeted_dlr", whose restart r aims at the
        wrong class that is r-th most probable on the clean image.
      target: the network and the batch.

    Returns:
      A function from the number of a restart, int32 `[]`, to a function of logits `[B, C]` and
      labels `[B, C]` to `[B]`.
    """
    if loss != "targeted_dlr":
        chosen = {"cross_entropy": log_odds, "dlr": dlr}[loss]
        return lambda number: chosen
    label = target.batch.label
    true = jax.nn.one_hot(jnp.argmax(label, -1), label.shape[-1], dtype=jnp.bool_)
    # Without the true class, which is the last one.
    ranked = jnp.argsort(jnp.where(true, jnp.inf, -target.logits(target.batch.image)), axis=-1)

    def of(number: jax.Array) -> Loss:
        wrong = jnp.take(ranked, number % (label.shape[-1] - 1), axis=-1)
        return lambda logits, label: targeted_dlr(logits, label, wrong)

    return of


class _Top(NamedTuple):
    """Where an example's loss was highest."""

    image: jax.Array
    gradient: jax.Array
    value: jax.Array  # [B]


class _State(NamedTuple):
    x: jax.Array
    before: jax.Array  # the image of the step before
    value: jax.Array  # [B], its loss
    length: jax.Array  # [B, 1, ...], eta
    rises: jax.Array  # [B], the steps since the last checkpoint that raised the loss
    halved: jax.Array  # [B], whether eta was halved there
    checked: jax.Array  # [B], the highest loss until there
    top: _Top
    worst: Best


def climb(
    target: Target, ball: LInf | L2, key: jax.Array, number: jax.Array, loss: Loss, steps: int
) -> Best:
    """The images of the largest margins on the way of one restart, and these margins."""
    start = ball.start(example_keys(jax.random.fold_in(key, number), target.batch))
    size = start.shape[:1]
    lowest, ones = jnp.full(size, -jnp.inf, start.dtype), jnp.ones(size, bool)
    length = jnp.full((*size, *[1] * (start.ndim - 1)), 2 * ball.epsilon)
    top = _Top(start, jnp.zeros_like(start), lowest)
    counts = jnp.zeros(size, jnp.int32)
    state = _State(start, start, -lowest, length, counts, ones, lowest, top, (start, lowest))

    def step(state: _State, plan: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[_State, None]:
        return _step(target, ball, loss, state, *plan), None

    return lax.scan(step, state, _plan(steps))[0].worst


def _plan(steps: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each image, the last one's included: whether to check, since when, and the momentum."""
    window, share = np.zeros(steps + 1, np.int32), np.full(steps + 1, _MOMENTUM, np.float32)
    places = checkpoints(steps)
    window[places] = np.diff([0, *places])
    share[0] = 1
    return jnp.asarray(window > 0), jnp.asarray(window), jnp.asarray(share)


def _step(
    target: Target,
    ball: LInf | L2,
    loss: Loss,
    state: _State,
    check: jax.Array,
    window: jax.Array,
    share: jax.Array,
) -> _State:
    x, rows = state.x, state.length.shape
    value, margins, _, gradient = target.ascent(x, loss)
    top = _higher(state.top, _Top(x, gradient, value))
    rises = state.rises + (value > state.value)
    stuck = ~state.halved & (top.value <= state.checked)
    halve = check & ((rises < _RISING * window) | stuck)
    at = halve.reshape(rows)
    length = jnp.where(at, state.length / 2, state.length)
    here, uphill = jnp.where(at, top.image, x), jnp.where(at, top.gradient, gradient)
    ahead = ball.project(here + length * ball.steepest(uphill))
    share = share.astype(x.dtype)
    moved = ball.project(here + share * (ahead - here) + (1 - share) * (here - state.before))
    return _State(
        moved,
        here,
        value,
        length,
        jnp.where(check, 0, rises),
        jnp.where(check, halve, state.halved),
        jnp.where(check, top.value, state.checked),
        top,
        worse(state.worst, x, margins),
    )


def _higher(top: _Top, other: _Top) -> _Top:
    better = other.value > top.value  # never where it is NaN
    rows = better.reshape(-1, *[1] * (top.image.ndim - 1))
    image, gradient = (jnp.where(rows, b, a) for a, b in zip(top[:2], other[:2], strict=True))
    return _Top(image, gradient, jnp.where(better, other.value, top.value))


def _check_loss(loss: str, target: Target) -> None:
    if loss not in LOSSES:
        raise ValueError(f"apgd knows the losses {sorted(LOSSES)}, not {loss!r}.")
    classes = target.batch.label.shape[-1]
    if classes < LOSSES[loss]:
        raise ValueError(f"apgd's {loss} needs {LOSSES[loss]} classes at least, not {classes}.")
