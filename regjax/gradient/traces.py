"""The mathematics of gradient penalties: squared norms and traces of products with Jacobians.

Pure functions of arrays and of a `pullback`, the vector-Jacobian product of a network's logits. `J`
is the Jacobian `[C, D]` of one example's logits, `A` a `[C, C]` matrix given as a function.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from regjax.core.eager import eager_sum
from regjax.core.precision import wide
from regjax.losses.cross_entropy import log_probabilities

Linear = Callable[[jax.Array], jax.Array]


def squared_norm(x: jax.Array) -> jax.Array:
    """The squared Euclidean norm of each example, `sum x^2` over all axes but the first.

    Args:
      x: `[B, ...]`.

    Returns:
      `[B]`, float32 at least; its gradient at zero is zero.

    Example:
      >>> print(squared_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
      [25.  0.]
    """
    x = wide(x)
    return jnp.sum(x * x, axis=tuple(range(1, x.ndim)))


def softmax_jacobian(logits: jax.Array) -> Linear:
    """The Jacobian of the softmax output as a linear map, `z -> H z = p * (z - p.z)`.

    It is also the Hessian of cross entropy; see the thesis, section 6.1.

    Args:
      logits: `[B, C]`.

    Returns:
      A function from `z [B, C]` to `H z [B, C]`.

    Example:
      >>> print(softmax_jacobian(jnp.zeros((1, 2)))(jnp.array([[1.0, 0.0]])))
      [[ 0.25 -0.25]]
    """
    p = jnp.exp(log_probabilities(logits))
    return lambda z: p * (z - jnp.sum(p * z, axis=-1, keepdims=True))


def hessian_root(logits: jax.Array) -> Linear:
    """A square root of cross entropy's Hessian as a linear map, `z -> sqrt(p) z - p (sqrt(p).z)`.

    `A = diag(sqrt(p)) - p sqrt(p)'` has `A A' = diag(p) - pp' = H`.

    Args:
      logits: `[B, C]`.

    Returns:
      A function from `z [B, C]` to `A z [B, C]`.

    Example:
      >>> print(hessian_root(jnp.zeros((1, 2)))(jnp.array([[1.0, 0.0]])).round(4))
      [[ 0.3536 -0.3536]]
    """
    # Through the logarithm, because sqrt(p) has an infinite derivative where p underflows to 0.
    log_p = log_probabilities(logits)
    root, p = jnp.exp(0.5 * log_p), jnp.exp(log_p)
    return lambda z: root * z - p * jnp.sum(root * z, axis=-1, keepdims=True)


def exact_trace(pullback: Linear, factor: Linear, classes: int, size: int) -> jax.Array:
    """`Tr(J' A A' J)` of each example by C backward passes, one unit vector each.

    Args:
      pullback: `[B, C] -> [B, ...]`, the vector-Jacobian product of the logits.
      factor: `z -> A z`, `[B, C] -> [B, C]`.
      classes: C.
      size: B.

    Returns:
      `[B]`, float32 at least.

    Example:
      >>> kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]])  # logits = x @ kernel
      >>> print(exact_trace(lambda c: c @ kernel.T, lambda z: z, classes=2, size=1))
      [30.]
    """

    def unit(k: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jax.nn.one_hot(k, classes), (size, classes))

    return jnp.sum(_squared_norms(pullback, factor, unit, classes), axis=0)


def mean_exact_trace(pullback: Linear, factor: Linear, classes: int, share: jax.Array) -> jax.Array:
    """The mean of `exact_trace` over a batch, in a fraction of its memory when differentiated.

    `sum_i share_i Tr(J_i' A A' J_i)`. The derivative is accumulated with the value, class by class,
    which is possible only because the shares are known beforehand.

    Args:
      pullback: `[B, C] -> [B, ...]`, the vector-Jacobian product of the logits.
      factor: `z -> A z`, `[B, C] -> [B, C]`.
      classes: C.
      share: `[B]`, the weights of the mean; they sum to 1.

    Returns:
      A scalar, float32 at least.

    Example:
      >>> kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]])  # logits = x @ kernel
      >>> print(mean_exact_trace(lambda c: c @ kernel.T, lambda z: z, 2, jnp.ones(1)))
      30.0
    """

    def term(k: jax.Array) -> jax.Array:
        unit = jnp.broadcast_to(jax.nn.one_hot(k, classes), (len(share), classes))
        norms = squared_norm(pullback(factor(unit)))
        return jnp.sum(jnp.where(share == 0, 0, share * norms))

    return eager_sum(term, classes)


def probed_traces(
    pullback: Linear,
    factor: Linear,
    classes: int | tuple[int, ...],
    keys: jax.Array,
    probes: int,
) -> jax.Array:
    """Independent unbiased estimates of `Tr(J' A A' J)` by random signs, one backward pass each.

    `E ||J' A z||^2 = Tr(J' A A' J)` for Rademacher `z`; see "A stochastic estimator of the trace of
    the influence matrix" (Hutchinson, 1990).

    Args:
      pullback: `[B, C] -> [B, ...]`, the vector-Jacobian product of the logits.
      factor: `z -> A z`, `[B, C] -> [B, C]`.
      classes: C, or of dense predictions `[B, ..., C]` all axes but the first.
      keys: `[B]`, one key an example.
      probes: how many estimates.

    Returns:
      `[probes, B]`, float32 at least.

    Example:
      >>> kernel, keys = jnp.eye(2), jax.random.split(jax.random.key(0), 1)
      >>> print(probed_traces(lambda c: c @ kernel.T, lambda z: z, 2, keys, probes=3).mean(0))
      [2.]
    """
    shape = (classes,) if isinstance(classes, int) else classes

    def signs(k: jax.Array) -> jax.Array:
        keys_k = jax.vmap(jax.random.fold_in, (0, None))(keys, k)
        return jax.vmap(lambda key: jax.random.rademacher(key, shape, float))(keys_k)

    return _squared_norms(pullback, factor, signs, probes)


def _squared_norms(pullback: Linear, factor: Linear, direction: Linear, count: int) -> jax.Array:
    def one(k: jax.Array) -> jax.Array:
        return squared_norm(pullback(factor(direction(k))))

    if count == 1:
        return one(jnp.zeros((), jnp.int32))[None]
    # One direction at a time: all at once would hold `count` copies of the network's activations.
    # Saving only the products makes the derivative repeat elementwise work and nothing else.
    step = jax.checkpoint(one, policy=_saves_products)
    return jax.lax.map(step, jnp.arange(count))


def _saves_products(primitive: Primitive, *_: object, **__: object) -> bool:
    # A convolution with derivatives of its own is known by its name (experiments has such ones).
    name = primitive.name
    return name in ("dot_general", "conv_general_dilated") or name.startswith("convolution")
