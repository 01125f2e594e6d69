"""The center loss: features are drawn to the center of their class."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax.core.axes import is_mapped
from regjax.core.batch import Batch, example_means
from regjax.core.forward import Forward
from regjax.core.head_check import head_features
from regjax.core.point import Point
from regjax.core.precision import wide
from regjax.core.stages import Share, penalty


class Centers(NamedTuple):
    """The centers of the classes' features; float32, or float64 where the features are.

    Attributes:
      centers: `[C, A]`, as the last step left them.
      before: `[C, A]`, as the last step found them.
      total: `[C, A]`, the sum of each class's features in the last step.
      seen: `[C]`, the sum of the weights of its examples there.
    """

    centers: jax.Array
    before: jax.Array
    total: jax.Array
    seen: jax.Array


def _zeros(forward: Forward, batch: Batch, **_: Any) -> Centers:
    features = head_features(jax.eval_shape(forward, batch.image))
    dtype = jnp.promote_types(features.dtype, jnp.float32)
    shape = batch.label.shape[-1], features.shape[-1]
    # Arrays of their own, since a step that donates its arguments takes each once.
    return Centers(*(jnp.zeros(s, dtype) for s in (shape, shape, shape, shape[:1])))


@penalty(init=_zeros)
def center(
    point: Point,
    batch: Batch,
    state: Centers,
    part: jax.Array,
    *,
    rate: Share,
    axis_name: str | None = None,
) -> tuple[jax.Array, Centers]:
    """The center loss: half the squared distance of the features from their class's center.

    `1/2 sum_c label_ic |a_i - k_c|^2`, whose mean over the examples the weight multiplies, as in
    the authors' program; the paper has their sum. See "A Discriminative Feature Learning Approach
    for Deep Face Recognition" (Wen et al., 2016), eqs. (2) to (4) and Algorithm 1. The centers, 0
    at the start, are no parameters: after the step each goes to `k_c - rate sum_i label_ic (k_c -
    a_i) / (1 + sum_i label_ic)`, where an example counts by its weight, too, so that padding does
    not. That is not the loss's gradient, which would move the centers of small batches, and of rare
    classes, less. Dense predictions take the mean over labelled positions, the centers all of them.

    Of a batch in parts all see the centers of the step's beginning, and all together move them as
    the whole would; so do the devices of `axis_name`. Under `jit` nothing need be said.

    When it helps: classes that are to lie close together, such as faces. Cost: `3 B C A`
    multiplications; memory `3 C A` numbers.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda; ISDA does not say which, the authors take 0.008 for faces and
        0.01 on MNIST.
      rate: alpha, how far the centers go; 0.5 in the paper. ISDA calls 0.5 the initial one: a
        schedule is taken as well.
      axis_name: under `pmap` and `shard_map`, the axis over which the batch is split.

    Returns:
      A `Loss` with a penalty `[B]`, not averaged; its state is `Centers`.

    Raises:
      ValueError: a network without features; an axis that is not mapped.

    Example:
      >>> import regjax as rj
      >>> rj.center(rj.cross_entropy(), weight=0.01, rate=0.5)
      cross_entropy | center(weight=0.01, rate=0.5)
    """
    if axis_name is not None and not is_mapped(axis_name):
        raise ValueError(
            f"axis_name={axis_name!r} is not an axis of a pmap or shard_map around the loss; under "
            "jit alone, center needs none."
        )
    features, label = wide(head_features(point.outputs)), wide(batch.label)
    first = part == 0
    before = jnp.where(first, state.centers, state.before)
    total, seen = (jnp.where(first, 0, x) for x in (state.total, state.seen))
    added = _sums(features, label, batch.weight)
    added = added if axis_name is None else jax.lax.psum(added, axis_name)
    total, seen = total + added[0].astype(total.dtype), seen + added[1].astype(seen.dtype)
    step = (seen[:, None] * before - total) / (1 + seen)[:, None]
    following = Centers(before - rate * step, before, total, seen)
    return example_means(_distances(features, label, before), batch.label), following


def _sums(
    features: jax.Array, label: jax.Array, weight: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Of each class, the sum of the features `[C, A]` and what was counted `[C]`; detached."""
    features, label = jax.lax.stop_gradient((features, label))
    if weight is not None:
        label = label * jnp.expand_dims(weight, range(1, label.ndim))
    # What padding yields may be NaN, and zero times that is NaN.
    features = jnp.where(jnp.any(label > 0, axis=-1, keepdims=True), features, 0)
    flat = [x.reshape(-1, x.shape[-1]) for x in (label, features)]
    return jnp.matmul(flat[0].T, flat[1], precision="highest"), jnp.sum(flat[0], 0)


def _distances(features: jax.Array, label: jax.Array, centers: jax.Array) -> jax.Array:
    """Half the squared distances, `[B, ...]`, in the mean over the label."""
    mass = jnp.sum(label, -1)
    # From the mean of the centers; around it, a soft label's centers have distances of their own.
    middle = jnp.matmul(label, centers, precision="highest")
    middle = middle / jnp.where(mass > 0, mass, 1)[..., None]
    around = jnp.matmul(label, jnp.sum(centers**2, -1), precision="highest")
    around = jnp.maximum(around - mass * jnp.sum(middle**2, -1), 0)
    return 0.5 * (mass * jnp.sum((features - middle) ** 2, -1) + around)
