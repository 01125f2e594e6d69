"""The base loss of classification."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_means
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.stages import base


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
def cross_entropy(outputs: Outputs, batch: Batch) -> jax.Array:
    """Cross entropy of the softmax output with soft labels.

    `loss_i = -sum_c label_ic log softmax(logits_i)_c`. See the thesis, section 2.1.4. For dense
    predictions the mean of that over an example's labelled positions. A class of label 0 adds
    nothing, even where its logit is -inf.

    Returns:
      A `Loss` whose losses are `[B]`, in nats, not averaged.

    Example:
      >>> import regjax as rj
      >>> rj.cross_entropy()
      cross_entropy
    """
    losses = -jnp.sum(counted(batch.label, log_probabilities(outputs.logits)), axis=-1)
    return example_means(losses, batch.label)
