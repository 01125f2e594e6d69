"""What a loss computes at a batch, and the one number that is made of it."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, labeled, weighted_mean
from regjax.core.outputs import Outputs


class Result(NamedTuple):
    """What a loss computes at a batch; `total` makes one number of it.

    Attributes:
      losses: the base loss of each example, `[B]`, nats for cross entropy, not averaged.
      penalties: the weighted terms by name, each `[B]` or a scalar.
      outputs: the network's `Outputs` at the point where the loss was taken.
      metrics: scalars by name: the mean of the base loss and of every penalty, without its weight;
        under `shard_map` and `pmap` the mean over the device's own examples.
      unlabeled: the weighted terms of `batch.unlabeled` by name, each `[U]` or a scalar.
      weight: what each example counts in the mean of `losses`, `[B]`: of dense labels the weight
        times the number of labelled positions, and what wrappers made of the weight; None where it
        is `batch.weight`, or 0 for an example without a label.
    """

    losses: jax.Array
    penalties: dict[str, jax.Array]
    outputs: Outputs
    metrics: dict[str, jax.Array]
    unlabeled: dict[str, jax.Array] = {}  # noqa: RUF012 - never written to
    weight: jax.Array | None = None


def total(
    result: Result, batch: Batch, *, axis_name: str | None = None, by_image: bool = False
) -> jax.Array:
    """The number to minimise: the mean loss plus the mean of every weighted penalty.

    `sum_i w_i loss_i / sum_i w_i + sum_penalties mean(penalty)`, the only place where anything is
    averaged. Examples without a label are left out, as if their weights were 0. Dense labels count
    by position: with `n_i` labelled ones in example i, `w_i n_i` takes the place of `w_i` in the
    loss's mean, which is that over all labelled positions of the batch.

    Args:
      result: what `Loss.apply` returned.
      batch: its batch, for `batch.weight` and what has a label.
      axis_name: under `pmap` and `shard_map`, the axis whose `pmean` follows, where padding or the
        number of labels may differ by device.
      by_image: whether dense labels count by image: the mean over an image's labelled positions,
        and then over the images that have any.

    Returns:
      A scalar, in the base loss's units.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.zeros((2, 2)))
      >>> batch = rj.Batch(jnp.ones((1, 2)), jnp.array([[1.0, 0.0]]))
      >>> loss = rj.cross_entropy()
      >>> result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
      >>> print(f"{rj.total(result, batch):.4f}")
      0.6931
    """
    batch = labeled(batch)
    result = by_images(result, batch) if by_image else result
    return labeled_total(result, batch, axis_name) + unlabeled_total(result, batch, axis_name)


def by_images(result: Result, batch: Batch) -> Result:
    """The result in which dense labels count by image, in the base's mean and in its metric."""
    if result.weight is None:
        return result
    weight = image_weight(result.weight, batch)
    base_name = next(iter(result.metrics))
    metrics = result.metrics | {base_name: weighted_mean(result.losses, weight)}
    return result._replace(weight=weight, metrics=metrics)


def image_weight(weight: jax.Array, batch: Batch) -> jax.Array:
    """What images count in the base's mean, `[B]`, of what their labelled positions do, `[B]`."""
    if batch.label.ndim == 2:
        return weight
    return jnp.where(weight > 0, 1.0 if batch.weight is None else batch.weight, 0)


def labeled_total(result: Result, batch: Batch, axis_name: str | None) -> jax.Array:
    """The part of `total` that is a mean over the batch's own examples."""
    return functools.reduce(jnp.add, labeled_means(result, batch, axis_name))


def labeled_means(result: Result, batch: Batch, axis_name: str | None) -> list[jax.Array]:
    """The means over the batch's own examples: of the base loss, then of each penalty."""
    # A scalar is what every example has, so that devices with less weight count less.
    each = [jnp.broadcast_to(term, result.losses.shape) for term in result.penalties.values()]
    weight = batch.weight if result.weight is None else result.weight
    base = weighted_mean(result.losses, weight, axis_name)
    return [base, *(weighted_mean(term, batch.weight, axis_name) for term in each)]


def unlabeled_total(result: Result, batch: Batch, axis_name: str | None) -> jax.Array:
    """The part of `total` that is a mean over the examples of `batch.unlabeled`."""
    terms = [jnp.zeros((), result.losses.dtype)]
    for term in result.unlabeled.values():
        assert batch.unlabeled is not None
        each = jnp.broadcast_to(term, batch.unlabeled.image.shape[:1])
        terms.append(weighted_mean(each, batch.unlabeled.weight, axis_name))
    return functools.reduce(jnp.add, terms)
