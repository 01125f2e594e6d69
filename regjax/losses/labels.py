"""Wrappers that change labels."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_keys, example_means
from regjax.core.checks import check_one_label
from regjax.core.forward import Forward
from regjax.core.stages import Share, wrapper


@wrapper
def label_smoothing(forward: Forward, batch: Batch, *, amount: Share) -> tuple[Forward, Batch]:
    """Labels of which a share is moved to the uniform distribution.

    `label <- (1 - amount) label + amount / C`, where there is a label. See "Rethinking the
    Inception Architecture for Computer Vision" (Szegedy et al., 2016), section 7.
    Who means a share for the C - 1 other classes alone gives C / (C - 1) times it.

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
def class_weights(
    forward: Forward, batch: Batch, *, weights: tuple[float, ...]
) -> tuple[Forward, Batch]:
    """Examples that count by their class, for unbalanced classes.

    `sum_i sum_c w_c label_ic loss_ic / sum_i sum_c w_c label_ic`, where `loss_ic` is the base loss
    of example i under the label c; `torch.nn.CrossEntropyLoss(weight=w)` for hard labels. An
    example counts `v_i = sum_c w_c label_ic` and has the label `w_c label_ic / v_i`, which is right
    of mixed and smoothed labels too: it stands next to the base, so that it sees those. Penalties
    stay means over the examples. "Balanced" weights are `N / (C n_c)`, of n_c examples each. Dense
    labels count so position by position, for bases that are linear in the label, as all here are;
    a position whose class has weight 0 is ignored.

    Args:
      loss: the loss to wrap, a base; its labels are `[B, C]`, or `[B, ..., C]` (positional).
      weights: w, one a class, not negative.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the weights are not C numbers of at least 0 that are finite and not
        all 0, or a wrapper nearer to the base changes labels.

    Example:
      >>> import regjax as rj
      >>> rj.class_weights(rj.cross_entropy(), weights=(0.5, 2.0))
      cross_entropy | class_weights(weights=(0.5, 2.0))
    """
    classes = batch.label.shape[-1]
    if len(weights) != classes or not all(0 <= w < math.inf for w in weights) or not any(weights):
        raise ValueError(
            f"class_weights needs {classes} weights, one a class, of at least 0, finite and not "
            f"all 0, but they are {weights}."
        )
    shape = (1,) * (batch.label.ndim - 1) + (classes,)
    weighted = batch.label * jnp.asarray(weights, batch.label.dtype).reshape(shape)
    # Of dense labels, the mean over those positions that the base counts.
    counts = example_means(jnp.sum(weighted, -1), weighted)
    label = weighted / jnp.expand_dims(jnp.where(counts == 0, 1, counts), range(1, len(shape)))
    weight = counts if batch.weight is None else batch.weight * counts
    return forward, batch.replace(label=label, weight=weight)


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
