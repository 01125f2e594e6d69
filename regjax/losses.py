"""Base losses, and wrappers that change labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.batch import Batch, example_means
from regjax.forward import Forward, Outputs
from regjax.norms import wide
from regjax.stages import Number, base, wrapper


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


@base
def cross_entropy(outputs: Outputs, batch: Batch) -> jax.Array:
    """Cross entropy of the softmax output with soft labels.

    `loss_i = -sum_c label_ic log softmax(logits_i)_c`. See the thesis, section 2.1.4. For dense
    predictions the mean of that over an example's labelled positions.

    Returns:
      A `Loss` whose losses are `[B]`, in nats, not averaged.

    Example:
      >>> import regjax as rj
      >>> rj.cross_entropy()
      cross_entropy
    """
    losses = -jnp.sum(batch.label * log_probabilities(outputs.logits), axis=-1)
    return example_means(losses, batch.label)


@wrapper
def label_smoothing(forward: Forward, batch: Batch, *, amount: Number) -> tuple[Forward, Batch]:
    """Moves a share of every label to the uniform distribution.

    `label <- (1 - amount) label + amount / C`, where there is a label. See "Rethinking the
    Inception Architecture for Computer Vision" (Szegedy et al., 2016), section 7.

    Args:
      loss: the loss to wrap; its labels are `[B, C]` (positional).
      amount: between 0 (no smoothing) and 1.

    Returns:
      A `Loss`.

    Example:
      >>> import regjax as rj
      >>> rj.label_smoothing(rj.cross_entropy(), amount=0.1)
      cross_entropy | label_smoothing(amount=0.1)
    """
    # Positions without a label, all 0, stay without.
    uniform = jnp.sum(batch.label, -1, keepdims=True) / batch.label.shape[-1]
    label = (1 - amount) * batch.label + amount * uniform
    return forward, batch.replace(label=label)
