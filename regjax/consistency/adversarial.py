"""Virtual adversarial training: predictions that do not change in the worst direction nearby."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from regjax.consistency.distances import divergence
from regjax.consistency.views import AVERAGES
from regjax.core import draws
from regjax.core.batch import example_keys
from regjax.core.checks import check_choice
from regjax.core.precision import wide
from regjax.core.second import Second
from regjax.core.stages import AtLeastZero, Count, Number, penalty

Step = Callable[[jax.Array], jax.Array]


@penalty(over="unlabeled")
def vat(
    second: Second,
    key: jax.Array,
    *,
    epsilon: AtLeastZero,
    iterations: Count = 1,
    finite_difference: AtLeastZero | None = None,
    averages: str = "kept",
) -> jax.Array:
    """Virtual adversarial training: the divergence from the predictions at the worst point nearby.

    `KL(p(x) || p(x + r))` with `r = epsilon d / |d|`, `d` after `iterations` of `d <- J'HJ d` from
    a normal draw, where `J` is the Jacobian of the logits and `H = diag(p) - pp'`: what the
    divergence's Hessian at `r = 0` is. p(x) is a target, r a constant, and the dropout masks are
    equal. See "Virtual Adversarial Training" (Miyato et al., 2018), eqs. (5) to (12).

    When it helps: few labels, with weight 1 from the first step on; `epsilon` is the length of a
    change that keeps the class, in units of the network's input: 8 on whitened CIFAR, 3.5 on SVHN
    within [-0.5, 0.5]. Cost: `4/3 + 2/3 iterations` passes for every unlabelled image. With
    BatchNorm in training mode the derivatives are those of the whole batch.

    Args:
      loss: the loss to add to (positional).
      weight: the strength.
      epsilon: the length of r, `|r|_2`.
      iterations: K, of the power method.
      finite_difference: None for exact products with the Hessian; or xi, the authors' way: the
        gradient of the divergence at `xi d / |d|`, whose direction float32 loses at their 1e-6.
      averages: as in `pi_model`.

    Returns:
      A `Loss` with a penalty `[U]` over `batch.unlabeled`, nats.

    Raises:
      ValueError: no unlabelled examples, wrappers with a state, an unknown `averages`.

    Example:
      >>> import regjax as rj
      >>> rj.vat(rj.cross_entropy(), weight=1.0, epsilon=8.0)
      cross_entropy | vat(weight=1.0, epsilon=8.0)
    """
    check_choice("vat's averages", averages, AVERAGES)
    image, keys = second.batch.image, example_keys(key, second.batch)
    # Parameters that are not differentiated, or the search would be.
    held = second.forward.replace(params=jax.lax.stop_gradient(second.forward.params))

    def logits(x: jax.Array) -> jax.Array:
        return held(x, second.key).logits

    clean, step = _power_step(logits, image, finite_difference)
    direction = draws.normal(keys, image.shape[1:])
    for _ in range(iterations):
        direction = wide(step(_normalised(direction)))
    moved = image + (epsilon * _normalised(direction)).astype(image.dtype)
    moved = jax.lax.stop_gradient(moved)
    return divergence(jax.lax.stop_gradient(clean), second.forward(moved, second.key).logits)


def _power_step(
    logits: Callable[[jax.Array], jax.Array], image: jax.Array, xi: Number | None
) -> tuple[jax.Array, Step]:
    """The logits at the images, and a product with the divergence's Hessian there."""
    if xi is None:
        clean, push = jax.linearize(logits, image)
        pull = jax.linear_transpose(push, image)
        p = jax.nn.softmax(wide(clean))
        likeliest = jnp.argmax(p, -1, keepdims=True)

        def exact(direction: jax.Array) -> jax.Array:
            change = wide(push(direction.astype(image.dtype)))
            # Of sure predictions, all that is left of the mean would be rounding.
            change = change - jnp.take_along_axis(change, likeliest, -1)
            scaled = p * (change - jnp.sum(p * change, -1, keepdims=True))
            return pull(scaled.astype(clean.dtype))[0]

        return clean, exact
    clean = logits(image)

    def apart(moved: jax.Array) -> jax.Array:
        return jnp.sum(divergence(clean, logits(moved)))

    return clean, lambda direction: jax.grad(apart)(image + (xi * direction).astype(image.dtype))


def _normalised(direction: jax.Array) -> jax.Array:
    """Each image's direction with length 1; 0 stays 0."""
    axes = tuple(range(1, direction.ndim))
    # Of numbers near 1, since the squares of small ones vanish.
    largest = jnp.max(jnp.abs(direction), axes, keepdims=True)
    direction = direction / jnp.where(largest > 0, largest, 1)
    square = jnp.sum(direction**2, axes, keepdims=True)
    return direction / jnp.sqrt(jnp.where(square > 0, square, 1))
