"""The ensemble by which robustness is reported: what no part misleads is right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from regjax.attacks.ascent import BALLS, Best, check_norm, worse
from regjax.attacks.auto_pgd import LOSSES, climb, losses_of
from regjax.attacks.random_search import check_images, search
from regjax.attacks.threat import Loss, aim, log_odds, scalar
from regjax.core.batch import Batch
from regjax.core.checks import check_count
from regjax.core.forward import Forward
from regjax.core.stages import Number

_TARGETS = 9


def autoattack(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    epsilon: Number,
    norm: str = "linf",
    steps: int = 100,
    queries: int = 5000,
    low: float = 0.0,
    high: float = 1.0,
) -> jax.Array:
    """AutoAttack: three attacks, each on what the ones before it have left.

    They are `apgd` on cross entropy; `apgd` on the targeted difference-of-logits ratio, at the nine
    likeliest wrong classes one after the other; and `square`, which needs no gradient. See
    "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-Free
    Attacks" (Croce and Hein, 2020), section 5. The published ensemble has a fourth part, FAB, which
    is left out; it seldom finds what the targeted one does not. With three classes the ratio is
    the one without a target, with two there is none.

    Images that are misled are kept as they are, and it ends where no image is left: how long it
    takes depends on the batch, what it finds for an image does not.

    Costs at most `20 steps + queries` forward passes in FLOPs.

    Args:
      forward: the network (positional, as are `batch` and `key`).
      batch: as in `fgsm`, but with images `[B, H, W, K]`.
      key: draws the starts and the squares.
      epsilon: as in `pgd`.
      norm: `"linf"` or `"l2"`, static.
      steps: of each run of `apgd`, static.
      queries: the steps of `square`, static.
      low: as in `fgsm`.
      high: as in `fgsm`.

    Returns:
      `[B, H, W, K]` like the image, in float32 at least, in the ball up to rounding.

    Raises:
      TypeError: steps or queries are no integers; the images or labels are not floating.
      ValueError: the norm is unknown, images are not `[B, H, W, K]`, steps or queries are less than
        1; and as in `fgsm`.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x.reshape(len(x), -1) @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.array([0.6, 0.4]).reshape(1, 2, 1, 1), jnp.array([[1.0, 0.0]]))
      >>> image = rj.attacks.autoattack(forward, batch, jax.random.key(0), epsilon=0.25, steps=5)
      >>> print(image.round(4).ravel())
      [0.35 0.65]
    """
    check_count("steps", steps)
    check_count("queries", queries)
    check_norm("autoattack", norm)
    target = aim("autoattack", forward, batch, low, high)
    check_images("autoattack", target)
    image, classes = target.batch.image, target.batch.label.shape[-1]
    ball = BALLS[norm](image, scalar("epsilon", epsilon, image), low, high)
    runs = 1 + {2: 0, 3: 1}.get(classes, min(_TARGETS, classes - 1))
    ratios = None
    if runs > 1:
        ratios = losses_of(next(n for n in reversed(LOSSES) if LOSSES[n] <= classes), target)

    def loss_of(number: jax.Array) -> Loss:
        if ratios is None:
            return log_odds
        ratio = ratios(number - 1)
        return lambda logits, label: lax.cond(number == 0, log_odds, ratio, logits, label)

    def run(carry: tuple[jax.Array, Best]) -> tuple[jax.Array, Best]:
        number, best = carry
        found = climb(target, ball, key, number, loss_of(number), steps)
        return number + 1, _where_right(best, found)

    def goes_on(carry: tuple[jax.Array, Best]) -> jax.Array:
        return (carry[0] < runs) & jnp.any(carry[1][1] <= 0)

    best = image, target.margins(image)
    _, best = lax.while_loop(goes_on, run, (jnp.int32(0), best))
    return search(target, ball, jax.random.fold_in(key, runs), best, queries)[0]


def _where_right(best: Best, found: Best) -> Best:
    """What was found, for the images that are not misled yet."""
    return worse(best, found[0], jnp.where(best[1] <= 0, found[1], -jnp.inf))
