"""How far predictions are apart, from each other or from their mean, one number an example.

All take logits of any floating type and compute in float32 at least. Of dense predictions, an
example's number is the mean over its positions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.precision import wide


def squared_distance(logits: jax.Array, other: jax.Array) -> jax.Array:
    """The mean squared difference of the probabilities: `1/C sum_c (p_c - q_c)^2`.

    See "Temporal Ensembling for Semi-Supervised Learning" (Laine and Aila, 2017), Algorithm 1.

    Args:
      logits: `[B, ..., C]`, of p.
      other: `[B, ..., C]`, of q.

    Returns:
      `[B]`, between 0 and `2 / C`.

    Example:
      >>> z = jnp.log(jnp.array([[0.75, 0.25]]))
      >>> print(squared_distance(z, jnp.zeros((1, 2))).round(4))
      [0.0625]
    """
    p, q = (jax.nn.softmax(wide(z)) for z in (logits, other))
    return by_example(jnp.mean((p - q) ** 2, -1))


def divergence(logits: jax.Array, other: jax.Array) -> jax.Array:
    """The Kullback-Leibler divergence `sum_c p_c (log p_c - log q_c)`.

    See "Virtual Adversarial Training" (Miyato et al., 2018), eq. (5).

    Args:
      logits: `[B, ..., C]`, of p.
      other: `[B, ..., C]`, of q.

    Returns:
      `[B]`, nats.

    Example:
      >>> z = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> print(divergence(z, z))
      [0.]
    """
    log_p, log_q = (jax.nn.log_softmax(wide(z)) for z in (logits, other))
    return by_example(jnp.sum(_times(jnp.exp(log_p), log_p - log_q), -1))


def prediction_entropy(logits: jax.Array) -> jax.Array:
    """The entropy of the predictions, `-sum_c p_c log p_c`.

    Args:
      logits: `[B, ..., C]`.

    Returns:
      `[B]`, nats.

    Example:
      >>> print(prediction_entropy(jnp.zeros((1, 2))))
      [0.6931472]
    """
    log_p = jax.nn.log_softmax(wide(logits))
    return by_example(-jnp.sum(_times(jnp.exp(log_p), log_p), -1))


def mean_prediction(
    logits: jax.Array, weight: jax.Array | None, axis_name: str | None
) -> jax.Array:
    """The mean of the probabilities over all examples, `sum_i w_i p_i / sum_i w_i`.

    Args:
      logits: `[B, ..., C]`.
      weight: `[B]`, or None where all count alike.
      axis_name: a mapped axis whose devices' examples are meant, or None.

    Returns:
      `[C]`; 0 where all weights are 0.

    Example:
      >>> print(mean_prediction(jnp.zeros((3, 2)), None, None))
      [0.5 0.5]
    """
    p = jax.nn.softmax(wide(logits))
    p = jnp.mean(p, tuple(range(1, p.ndim - 1)))
    weight = jnp.ones(len(p), p.dtype) if weight is None else weight
    # What padding yields may be NaN, and zero times that is NaN.
    total, size = jnp.sum(jnp.where(weight[:, None] == 0, 0, weight[:, None] * p), 0), weight.sum()
    if axis_name is not None:
        total, size = jax.lax.psum((total, size), axis_name)
    return total / jnp.where(size == 0, 1, size)


def cross_entropy_to(mean: jax.Array, logits: jax.Array) -> jax.Array:
    """The cross entropy of predictions to one distribution, `-sum_c p_c log mean_c`.

    Args:
      mean: `[C]`.
      logits: `[B, ..., C]`, of p.

    Returns:
      `[B]`, nats.

    Example:
      >>> print(cross_entropy_to(jnp.array([0.5, 0.5]), jnp.zeros((1, 2))))
      [0.6931472]
    """
    p = jax.nn.softmax(wide(logits))
    # Of no class that only padding has, or that is lost below the smallest number, is it -inf.
    log_mean = jnp.log(jnp.maximum(mean, jnp.finfo(mean.dtype).tiny))
    return by_example(-jnp.sum(p * jnp.broadcast_to(log_mean, p.shape), -1))


def by_example(values: jax.Array) -> jax.Array:
    """Each example's mean over its positions, `[B]`, of `values [B, ...]`."""
    return jnp.mean(values, tuple(range(1, values.ndim)))


def _times(p: jax.Array, value: jax.Array) -> jax.Array:
    """`p value`, 0 where p is 0, whose logarithm may be -inf."""
    known = p != 0
    return jnp.where(known, p * jnp.where(known, value, 0), 0)
