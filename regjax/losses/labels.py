"""Wrappers that change labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_keys
from regjax.core.checks import check_one_label
from regjax.core.forward import Forward
from regjax.core.stages import Share, wrapper


@wrapper
def label_smoothing(forward: Forward, batch: Batch, *, amount: Share) -> tuple[Forward, Batch]:
    """Labels of which a share is moved to the uniform distribution.

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


@wrapper
def disturb_label(
    forward: Forward, batch: Batch, key: jax.Array, *, rate: Share
) -> tuple[Forward, Batch]:
    """Labels of which some are drawn at random.

    With probability `rate` the label becomes one of all C classes, drawn uniformly, so that a true
    label stays with probability `1 - rate (C - 1) / C`. See "DisturbLabel: Regularizing CNN on the
    Loss Layer" (Xie et al., 2016), section 3. Each example draws by `batch.index`.

    Helps against overfitting, much as dropout does. Costs nothing.

    Args:
      loss: the loss to wrap; its labels are `[B, C]` (positional).
      rate: between 0 (no label is touched) and 1.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the labels are not `[B, C]`.

    Example:
      >>> import regjax as rj
      >>> rj.disturb_label(rj.cross_entropy(), rate=0.1)
      cross_entropy | disturb_label(rate=0.1)
    """
    check_one_label(batch, "disturb_label")
    label = batch.label

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        to_choose, to_class = jax.random.split(key)
        drawn = jax.random.randint(to_class, (), 0, label.shape[-1])
        return jax.random.uniform(to_choose, dtype=jnp.float32), drawn

    chance, drawn = jax.vmap(draw)(example_keys(key, batch))
    other = jax.nn.one_hot(drawn, label.shape[-1], dtype=label.dtype)
    return forward, batch.replace(label=jnp.where(chance[:, None] < rate, other, label))
