"""Attacks that climb a loss inside a ball around the image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from regjax.attacks.balls import L2, LInf
from regjax.attacks.threat import aim, log_odds, margin, scalar
from regjax.core.batch import Batch, example_keys
from regjax.core.checks import check_count
from regjax.core.forward import Forward
from regjax.core.stages import Number

BALLS: dict[str, type[LInf] | type[L2]] = {"linf": LInf, "l2": L2}

# Of pgd by default, in units of epsilon.
_LEAST_STEP = {"linf": 0.25, "l2": 0.5}

# The worst images so far, and their margins [B].
Best = tuple[jax.Array, jax.Array]


def fgsm(
    forward: Forward, batch: Batch, *, epsilon: Number, low: float = 0.0, high: float = 1.0
) -> jax.Array:
    """Fast gradient sign method: one step of size epsilon in every pixel.

    `clip(x + epsilon sign(d loss / d x))`. See "Explaining and Harnessing Adversarial Examples"
    (Goodfellow et al., 2015), section 4. Cross entropy is `softplus(log_odds)`, and the sign is
    that of the log odds' gradient: the same, but never 0 because the network is sure.

    One forward and one backward pass to the images: about 2 times a forward pass in FLOPs.

    Args:
      forward: the network (positional, as is `batch`).
      batch: images within `[low, high]`; the class attacked is the label's most probable one. An
        image whose label is all 0 is returned as it is.
      epsilon: the largest change of a pixel.
      low: the least value of a pixel, static under `jax.jit`.
      high: the largest, static under `jax.jit`.

    Returns:
      `[B, ...]` like the image, in float32 at least. It may be misleading or not; also where the
      image itself was.

    Raises:
      TypeError: the images or labels are not floating, or a number is none.
      ValueError: the shapes do not fit, or `low >= high`; outside of a trace also where images
        leave the bounds by more than rounding; they are clipped to the bounds.

    Example:
      >>> import jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.array([[0.6, 0.4]]), jnp.array([[1.0, 0.0]]))
      >>> print(rj.attacks.fgsm(forward, batch, epsilon=0.25).round(4))
      [[0.35 0.65]]
    """
    target = aim("fgsm", forward, batch, low, high)
    image = target.batch.image
    ball = LInf(image, scalar("epsilon", epsilon, image), low, high)
    gradient = target.ascent(image, log_odds).gradient
    return ball.project(image + ball.epsilon * ball.steepest(gradient))


def pgd(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    epsilon: Number,
    steps: int,
    step_size: Number | None = None,
    norm: str = "linf",
    restarts: int = 1,
    random_start: bool = True,
    low: float = 0.0,
    high: float = 1.0,
) -> jax.Array:
    """Projected gradient descent: many small steps, each back into the ball and the bounds.

    `x <- project(x + step_size s)` from a uniform draw in the ball, with `s = sign(g)` in the
    L-infinity ball and `s = g / ||g||` in the L2 ball; `g` is the gradient of the cross entropy,
    in the form of `fgsm`. See "Towards Deep Learning Models Resistant to Adversarial Attacks"
    (Madry et al., 2018), section 2.1. The L2 projection is onto ball and bounds at once.

    Every second restart climbs the margin instead of the cross entropy, which is stronger against
    networks that are kept from being sure (label smoothing, mixup): so `restarts=1` is the
    published attack, and two are worth more than two of a kind.

    Returned is, of the image itself and of all that any step of any restart reached, the one with
    the largest margin `max_{j != y} z_j - z_y`. It is positive just where the class is wrong, so
    margins never fall and accuracy never rises with more restarts, or with more steps of a given
    size: the start of a restart depends on the key, `batch.index` and its number alone.

    Costs about 2 times a forward pass in FLOPs a step, and a forward pass more a restart.

    Args:
      forward: the network (positional, as are `batch` and `key`).
      batch: as in `fgsm`.
      key: draws the starts.
      epsilon: the radius of the ball: the largest change of a pixel, or the Euclidean norm of all.
      steps: how many a restart, static.
      step_size: in units of epsilon's norm; None stands for `2.5 epsilon / steps`, enough to cross
        the ball, and for at least `epsilon / 4`, so that more than ten steps are never worth less
        than ten: smaller ones stay at the first hill, which on an adversarially trained network
        left 2.6 to 2.8 percent points more. In L2 it is at least `epsilon / 2`, without which the
        steps end short of even a linear network's best, since they slide along the surface.
      norm: `"linf"` or `"l2"`, static.
      restarts: how many, static.
      random_start: whether to start from a draw, and not from the image; static.
      low: as in `fgsm`.
      high: as in `fgsm`.

    Returns:
      `[B, ...]` like the image, in float32 at least, in the ball up to rounding.

    Raises:
      TypeError: steps or restarts are no integers; the images or labels are not floating.
      ValueError: the norm is unknown, steps or restarts are less than 1, there are several restarts
        without a random start; and as in `fgsm`.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.array([[0.6, 0.4]]), jnp.array([[1.0, 0.0]]))
      >>> key = jax.random.key(0)
      >>> print(rj.attacks.pgd(forward, batch, key, epsilon=0.25, steps=5).round(4))
      [[0.35 0.65]]
    """
    check_count("steps", steps)
    check_count("restarts", restarts)
    check_norm("pgd", norm)
    if restarts > 1 and not random_start:
        raise ValueError(f"{restarts} restarts without a random start: give random_start=True.")
    target = aim("pgd", forward, batch, low, high)
    image = target.batch.image
    ball = BALLS[norm](image, scalar("epsilon", epsilon, image), low, high)
    share = max(2.5 / steps, _LEAST_STEP[norm])
    length = share * ball.epsilon if step_size is None else scalar("step_size", step_size, image)

    def restart(number: jax.Array, best: Best) -> Best:
        keys = example_keys(jax.random.fold_in(key, number), target.batch)

        def loss(logits: jax.Array, label: jax.Array) -> jax.Array:
            by_margin = number % 2 == 1
            return jnp.where(by_margin, margin(logits, label), log_odds(logits, label))

        def step(_: int, carry: tuple[jax.Array, Best]) -> tuple[jax.Array, Best]:
            x, best = carry
            ascent = target.ascent(x, loss)
            best = worse(best, x, ascent.margins)
            return ball.project(x + length * ball.steepest(ascent.gradient)), best

        start = ball.start(keys) if random_start else image
        x, best = lax.fori_loop(0, steps, step, (start, best))
        return worse(best, x, target.margins(x))

    return lax.fori_loop(0, restarts, restart, (image, target.margins(image)))[0]


def mim(
    forward: Forward,
    batch: Batch,
    *,
    epsilon: Number,
    steps: int,
    step_size: Number | None = None,
    decay: Number = 1.0,
    low: float = 0.0,
    high: float = 1.0,
) -> jax.Array:
    """Momentum iterative method in the L-infinity ball: steps along the gradients' running sum.

    `m <- decay m + g / ||g||_1`, `x <- project(x + step_size sign(m))` from `x` itself, each
    example by its own norm. See "Boosting Adversarial Attacks with Momentum" (Dong et al., 2018),
    algorithm 1. `g` is as in `fgsm`; returned is the worst image on the way, as in `pgd`.

    Costs about 2 times a forward pass in FLOPs a step, and two forward passes.

    Args:
      forward: the network (positional, as is `batch`).
      batch: as in `fgsm`.
      epsilon: the largest change of a pixel.
      steps: how many, static.
      step_size: the change of a pixel in a step; None stands for `epsilon / steps`.
      decay: what of the sum is left after a step; 0 is without momentum.
      low: as in `fgsm`.
      high: as in `fgsm`.

    Returns:
      `[B, ...]` like the image, in float32 at least, in the ball up to rounding.

    Raises:
      TypeError: steps is no integer; the images or labels are not floating.
      ValueError: steps is less than 1; and as in `fgsm`.

    Example:
      >>> import jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.array([[0.6, 0.4]]), jnp.array([[1.0, 0.0]]))
      >>> print(rj.attacks.mim(forward, batch, epsilon=0.25, steps=5).round(4))
      [[0.35 0.65]]
    """
    check_count("steps", steps)
    target = aim("mim", forward, batch, low, high)
    image = target.batch.image
    ball = LInf(image, scalar("epsilon", epsilon, image), low, high)
    length = ball.epsilon / steps if step_size is None else scalar("step_size", step_size, image)
    decay = scalar("decay", decay, image)

    def step(_: int, carry: tuple[jax.Array, jax.Array, Best]) -> tuple[jax.Array, jax.Array, Best]:
        x, momentum, best = carry
        ascent = target.ascent(x, log_odds)
        gradient = ascent.gradient
        size = jnp.sum(jnp.abs(gradient), axis=tuple(range(1, x.ndim)), keepdims=True)
        momentum = decay * momentum + gradient / jnp.where(size == 0, 1, size)
        best = worse(best, x, ascent.margins)
        return ball.project(x + length * ball.steepest(momentum)), momentum, best

    best = image, target.margins(image)
    x, _, best = lax.fori_loop(0, steps, step, (image, 0 * image, best))
    return worse(best, x, target.margins(x))[0]


def worse(best: Best, image: jax.Array, margins: jax.Array) -> Best:
    """For each example the image of the larger margin, and that margin."""
    better = margins > best[1]  # never where it is NaN
    rows = better.reshape(-1, *[1] * (image.ndim - 1))
    return jnp.where(rows, image, best[0]), jnp.where(better, margins, best[1])


def check_norm(name: str, norm: str) -> None:
    """Refuses a norm that no ball is known of.

    Args:
      name: of the attack, for the error.
      norm: such as "linf".

    Raises:
      ValueError: it is none of `BALLS`.
    """
    if norm not in BALLS:
        raise ValueError(f"{name} knows the norms {sorted(BALLS)}, not {norm!r}.")
