"""A batch of examples, and what is computed from its fields alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of examples, a pytree; `batch.replace(image=...)` makes another.

    Attributes:
      image: the images, `[B, H, W, K]` (or `[B, ...]`), floating.
      label: the probabilities, `[B, C]`; `jax.nn.one_hot` makes them of class numbers. For dense
        predictions `[B, ..., C]`. All 0 where there is no label, as `one_hot` yields for numbers
        that are no class, such as -1 or 255: such a position is ignored, and an example with such a
        label is treated as padding, as if its weight were 0.
      index: `[B]` int32, which example of the data set each one is. Stages draw each example's
        randomness by it, so that a draw does not depend on the order or on the device. None
        stands for 0 to B-1, which under `shard_map` and `pmap` repeats the draws on every device.
      weight: the weights, `[B]`: what each example counts in means, as a penalty's weight is what
        that counts in the total; 0 on padding, whose images must be finite, or the gradients are
        not. None stands for all 1.
      unlabeled: a batch whose labels are not looked at, for semi-supervised losses.
    """

    image: jax.Array
    label: jax.Array
    index: jax.Array | None = None
    weight: jax.Array | None = None
    unlabeled: Batch | None = None

    def replace(self, **changes: Any) -> Batch:
        """The same batch with other fields."""
        return dataclasses.replace(self, **changes)


def labeled(batch: Batch) -> Batch:
    """The batch in which examples without a label weigh nothing, and so are left out of means.

    A batch of dense labels is returned as it is, since positions are left out, see `counted`.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> batch = rj.Batch(jnp.ones((2, 1)), jax.nn.one_hot(jnp.array([1, 255]), 2))
      >>> print(labeled(batch).weight)
      [1. 0.]
    """
    if batch.label.ndim > 2:
        return batch
    has = jnp.any(batch.label > 0, axis=-1)
    weight = 1.0 if batch.weight is None else batch.weight
    return batch.replace(weight=jnp.where(has, weight, 0))


def example_keys(key: jax.Array, batch: Batch) -> jax.Array:
    """One key for each example, `[B]`, that depends on `batch.index` and not on the position.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> batch = rj.Batch(jnp.ones((2, 1)), jnp.ones((2, 1)), index=jnp.array([7, 8]))
      >>> keys = example_keys(jax.random.key(0), batch)
      >>> jax.vmap(jax.random.normal)(keys).shape
      (2,)
    """
    size = batch.image.shape[0]
    index = jnp.arange(size) if batch.index is None else batch.index
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def shares(batch: Batch) -> jax.Array:
    """What each example counts in a mean, `[B]`, with sum 1; all 0 where all weights are 0."""
    size = batch.image.shape[0]
    if batch.weight is None:
        return jnp.full(size, 1 / size)
    whole = jnp.sum(batch.weight)
    return batch.weight / jnp.where(whole == 0, 1, whole)


def example_means(values: jax.Array, label: jax.Array) -> jax.Array:
    """What each example has in the mean over its labelled positions, `[B]`; 0 where it has none.

    Args:
      values: `[B, ...]`, one at each position; `[B]` is returned as it is.
      label: `[B, ..., C]`, all 0 at positions that do not count.
    """
    if values.ndim == 1:
        return values
    counted = jnp.any(label > 0, axis=-1)
    positions = tuple(range(1, values.ndim))
    number = jnp.maximum(jnp.sum(counted, positions), 1)
    return jnp.sum(jnp.where(counted, values, 0), positions) / number


def counted(batch: Batch) -> jax.Array | None:
    """What each example's base loss counts in the mean over a batch, `[B]`; None stands for all 1.

    Its weight, and for dense labels its weight times the number of its labelled positions, so that
    the mean is over all labelled positions of the batch.
    """
    if batch.label.ndim == 2:
        return batch.weight
    positions = tuple(range(1, batch.label.ndim - 1))
    number = jnp.sum(jnp.any(batch.label > 0, axis=-1), positions, dtype=jnp.float32)
    return number if batch.weight is None else batch.weight * number


def weighted_mean(
    values: jax.Array, weight: jax.Array | None, axis_name: str | None = None
) -> jax.Array:
    """The mean of `values [B]` by `weight [B]`; 0 where all weights are 0.

    With `axis_name`, the denominator is the mean over the devices of that axis, so that the `pmean`
    of the result is the mean over all examples however the padding is spread.
    """
    if weight is None:
        return jnp.mean(values)
    denominator = jnp.sum(weight)
    if axis_name is not None:
        denominator = jax.lax.pmean(denominator, axis_name)
    # What padding yields may be NaN, and zero times that is NaN.
    weighted = jnp.where(weight == 0, 0, weight * values)
    return jnp.sum(weighted) / jnp.where(denominator == 0, 1, denominator)
