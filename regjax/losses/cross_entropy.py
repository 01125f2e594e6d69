"""The base loss of classification."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core import auxiliary as others
from regjax.core.batch import Batch, example_means
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, base

_LOWEST = -1e30  # a logarithm of nothing that is finite, as are its products with 0


def log_probabilities(logits: jax.Array) -> jax.Array:
    """`log softmax(logits)` over the last axis, in float32 at least.

    Args:
      logits: `[..., C]`.

    Returns:
      `[..., C]`, nats; finite for finite logits.

    Example:
      >>> print(log_probabilities(jnp.zeros(2)).round(4))
      [-0.6931 -0.6931]
    """
    return jax.nn.log_softmax(wide(logits))


def log_complements(logits: jax.Array) -> jax.Array:
    """`log(1 - softmax(logits))` over the last axis, in float32 at least.

    Args:
      logits: `[..., C]`.

    Returns:
      `[..., C]`, nats, exact where a probability is all but 1; -1e30 or less where it is 1 and no
      other class has a finite logit.

    Example:
      >>> print(log_complements(jnp.array([9.0, 0.0])).round(4))
      [-9.0001e+00 -1.0000e-04]
    """
    log_p = log_probabilities(logits)
    largest = jax.nn.one_hot(jnp.argmax(log_p, -1), log_p.shape[-1], dtype=bool)
    # 1 - p cancels where p is more than 1/2, which is the largest's alone: there, the others' sum.
    others = jnp.where(largest, _LOWEST, jnp.maximum(log_p, _LOWEST))
    of_largest = jax.nn.logsumexp(others, axis=-1, keepdims=True)
    return jnp.where(largest, of_largest, jnp.log1p(-jnp.where(largest, 0, jnp.exp(log_p))))


def counted(weight: jax.Array, log_p: jax.Array) -> jax.Array:
    """The product of weights and logarithms in which `0 log 0` is 0, as is its derivative.

    Args:
      weight: probabilities, of any shape.
      log_p: of that shape; -inf where a probability is 0.

    Returns:
      `weight log_p`, of that shape.

    Example:
      >>> print(counted(jnp.array([0.0, 0.5]), jnp.array([-jnp.inf, -2.0])))
      [ 0. -1.]
    """
    return weight * jnp.where(weight == 0, 0, log_p)


@base
def cross_entropy(
    outputs: Outputs, batch: Batch, *, auxiliary: AtLeastZero | None = None
) -> jax.Array:
    """Cross entropy of the softmax output with soft labels.

    `loss_i = -sum_c label_ic log softmax(logits_i)_c`. See the thesis, section 2.1.4. For dense
    predictions the mean of that over an example's labelled positions. A class of label 0 adds
    nothing, even where its logit is -inf.

    Args:
      auxiliary: what the cross entropy of each auxiliary head's logits counts beside the main
        one's, 0.4 in PSPNet; None leaves them out. It is part of the base, so that it is averaged
        and weighted by class as that is, and gradient penalties are those of the sum.

    Returns:
      A `Loss` whose losses are `[B]`, in nats, not averaged.

    Raises:
      ValueError: at trace time, `auxiliary` without such a head, or its logits have another shape.

    Example:
      >>> import regjax as rj
      >>> rj.cross_entropy()
      cross_entropy
      >>> rj.cross_entropy(auxiliary=0.4)
      cross_entropy(auxiliary=0.4)
    """
    heads = [outputs, *(others.seen_from(outputs, batch) if auxiliary is not None else ())]
    return others.summed([_means(each.logits, batch.label) for each in heads], auxiliary)


def _means(logits: jax.Array, label: jax.Array) -> jax.Array:
    losses = -jnp.sum(counted(label, log_probabilities(logits)), axis=-1)
    return example_means(losses, label)
