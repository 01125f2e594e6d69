"""The large-margin softmax loss: a class is to win by an angle."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_means
from regjax.core.forward import Forward
from regjax.core.head_check import head_features, head_kernel, no_state
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, Count, base
from regjax.losses.cross_entropy import log_complements

_SHORT = 1e-12  # the squared length below which a vector has no direction


def _annealed(
    step: jax.Array,
    base: float | jax.Array,
    gamma: float | jax.Array,
    power: float | jax.Array,
    minimum: float | jax.Array,
) -> jax.Array:
    """The weight of the plain logit, `max(minimum, base (1 + gamma it)^-power)`, it from 1 on."""
    return jnp.maximum(base * jnp.exp(-power * jnp.log1p(gamma * (step + 1))), minimum)


def _psi(cosine: jax.Array, margin: int) -> jax.Array:
    """`(-1)^k cos(m t) - 2k` of the cosine of t, for t between k pi / m and (k + 1) pi / m.

    By the polynomials of Chebyshev, since the derivative of the arc cosine is infinite at its ends.
    """
    before, now = jnp.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, now = now, 2 * cosine * now - before
    passed = [cosine < math.cos(i * math.pi / margin) for i in range(1, margin)]
    k = sum(passed, jnp.zeros(cosine.shape, jnp.int32))
    return (1 - 2 * (k % 2)) * now - 2 * k


def _polar(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Directions and lengths along an axis; both 0, with derivatives 0, of what has no length."""
    square = jnp.sum(x**2, axis, keepdims=True)
    known = square > _SHORT
    length = jnp.sqrt(jnp.where(known, square, 1))
    return jnp.where(known, x / length, 0), jnp.where(known, length, 0)


@base(init=no_state)
def large_margin(
    outputs: Outputs,
    batch: Batch,
    forward: Forward,
    state: None,
    step: jax.Array,
    *,
    margin: Count,
    base: AtLeastZero,
    gamma: AtLeastZero = 2e-5,
    power: AtLeastZero = 45.0,
    minimum: AtLeastZero = 0.0,
) -> tuple[jax.Array, None]:
    """Large-margin softmax: cross entropy of logits of which the label's is made smaller.

    With t the angle between the features `a_i` and the class's weights `w_y`, the label's logit
    becomes `(lambda z_iy + |w_y| |a_i| psi(t)) / (1 + lambda)`, `psi(t) = (-1)^k cos(margin t) -
    2k` for t in `[k pi / margin, (k + 1) pi / margin]`; all others stay. See "Large-Margin Softmax
    Loss for Convolutional Neural Networks" (Liu et al., 2016), section 3. The weight of the plain
    logit is annealed by the step, as in the authors' program, `lambda = max(minimum, base (1 +
    gamma it)^-power)`, with it = 1 in the first step. Evaluation is by the network's own logits. A
    bias, which the paper's layer lacks, is left as it is. Features or weights shorter than 1e-6
    have no angle, and so no margin.

    Soft labels mean the expectation over the label, dense predictions the mean over labelled
    positions.

    When it helps: features that are to be compared by angle; slow annealing, or a minimum, where
    the loss does not fall. Cost: as cross entropy, and once more the last layer's product.

    Args:
      margin: m; 1 is cross entropy. The paper takes 2 to 4; ISDA does not say which.
      base: lambda before the first step; the authors take 1000.
      gamma: how fast lambda falls: 2e-5 on CIFAR-10, 1e-5 with augmentation, 2.5e-5 on MNIST.
      power: 45 on CIFAR, 35 on MNIST.
      minimum: of lambda.

    Returns:
      A `Loss` with losses `[B]`, in nats, not averaged.

    Raises:
      ValueError: a margin below 1; a network without a named head or without features, or whose
        logits are not `features @ kernel + bias`.

    Example:
      >>> import regjax as rj
      >>> rj.large_margin(margin=4, base=1000.0)
      large_margin(margin=4, base=1000.0)
    """
    features, kernel = wide(head_features(outputs)), head_kernel(forward)
    (towards, length), (ways, norms) = _polar(features, -1), _polar(kernel, 0)
    # Accelerators round the factors of products otherwise, where the cosine is near 1.
    cosine = jnp.matmul(towards, ways, precision="highest")
    weight = 1 / (1 + _annealed(step, base, gamma, power, minimum))
    product = length * norms.reshape((1,) * (length.ndim - 1) + (-1,))
    moved = weight * product * (_psi(cosine, margin) - cosine)
    z = wide(outputs.logits)
    others = log_complements(z) + jax.nn.logsumexp(z, axis=-1, keepdims=True)
    ahead = jnp.where(batch.label == 0, 0, others - z - moved)
    losses = jnp.sum(batch.label * jax.nn.softplus(ahead), axis=-1)
    return example_means(losses, batch.label), state
