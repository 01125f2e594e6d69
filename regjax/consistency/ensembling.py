"""Temporal ensembling: the network agrees with the average of its own earlier predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from regjax.consistency.views import AVERAGES
from regjax.core.axes import check_axis_name, everywhere, is_mapped
from regjax.core.batch import Batch
from regjax.core.checks import check_choice
from regjax.core.forward import Forward
from regjax.core.precision import wide
from regjax.core.second import Second
from regjax.core.stages import Count, Share, penalty


class Predictions(NamedTuple):
    """What was predicted for each image so far.

    Attributes:
      average: `[N, C]`, Z, float32: the decaying sum of the predicted probabilities.
      seen: `[N]`, n, int32: how many there were.
    """

    average: jax.Array
    seen: jax.Array


def _nothing(
    forward: Forward, batch: Batch, *, images: int, axis_name: str | None, **_: Any
) -> Predictions:
    if batch.label.ndim != 2:
        raise ValueError(
            "temporal_ensembling keeps one prediction an image, but the labels are "
            f"{list(batch.label.shape)}, not [B, C]."
        )
    empty = jnp.zeros((images, batch.label.shape[1])), jnp.zeros(images, jnp.int32)
    return _placed(Predictions(*empty), axis_name)


@penalty(over="unlabeled", init=_nothing)
def temporal_ensembling(
    second: Second,
    state: Predictions,
    part: jax.Array,
    *,
    images: Count,
    momentum: Share = 0.6,
    averages: str = "moved",
    axis_name: str | None = None,
) -> tuple[jax.Array, Predictions]:
    """Temporal ensembling: the distance from the average of an image's earlier predictions.

    `1/C sum_c (p_c - Z_c / (1 - momentum^n))^2`, then `Z <- momentum Z + (1 - momentum) p` and
    `n <- n + 1`, of the image at hand, with p as it is in training, before the step. Images that
    come for the first time have no term; one that comes several times in a batch, as a small
    stream's do, counts once, by the mean of its predictions. See "Temporal Ensembling for
    Semi-Supervised Learning" (Laine and Aila, 2017), Algorithm 2, whose count is that of the
    epochs.

    When it helps: as `pi_model`, for the price of one pass; the weight grows to 30 on CIFAR-10 and
    to 100 on CIFAR-100. Cost: a pass for every unlabelled image. Memory: `N (C + 1)` numbers.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, w.
      images: N, how many there are: above every `batch.unlabeled.index`.
      momentum: alpha, between 0 and 1: what an earlier prediction still counts after the next.
      averages: as in `pi_model`.
      axis_name: under `pmap` and `shard_map`, the axis over which the batch is split; every device
        keeps all predictions. Under `jit`, an axis of the mesh that `jax.set_mesh` set, over which
        they are split by image.

    Returns:
      A `Loss` with a penalty `[U]` over `batch.unlabeled`, squared probabilities; its state is
      `Predictions`.

    Raises:
      ValueError: no unlabelled examples or none with an index, dense labels, an unknown `averages`,
        an axis that is not there.

    Example:
      >>> import regjax as rj
      >>> rj.temporal_ensembling(rj.cross_entropy(), weight=30.0, images=50_000)
      cross_entropy | temporal_ensembling(weight=30.0, images=50000)
    """
    del part  # asked for, so that each part is given what the parts before it left
    check_choice("temporal_ensembling's averages", averages, AVERAGES)
    if axis_name is not None and not is_mapped(axis_name):
        check_axis_name(axis_name)
    batch, index = second.batch, second.batch.index
    if index is None:
        raise ValueError(
            "temporal_ensembling needs batch.unlabeled.index, the images' numbers in the data set."
        )
    p = jax.nn.softmax(wide(second.outputs.logits))
    average, seen = state.average[index], state.seen[index]
    known = seen > 0
    # Of momentum 1 nothing is ever added.
    share = 1 - momentum ** seen.astype(average.dtype)
    corrected = average / jnp.where(share > 0, share, 1)[:, None]
    values = jnp.where(known, jnp.mean((p - corrected) ** 2, -1), 0)
    moved = (1 - momentum) * (jax.lax.stop_gradient(p) - average)
    if batch.weight is not None:
        index = jnp.where(batch.weight > 0, index, images)  # padding leaves no trace
    return values, _added(state, index, moved, axis_name)


def _added(
    state: Predictions, index: jax.Array, moved: jax.Array, axis_name: str | None
) -> Predictions:
    """The state with the moves of all devices' images."""
    if axis_name is not None and is_mapped(axis_name):
        index, moved = (everywhere(x, axis_name) for x in (index, moved))
    times = jnp.zeros_like(state.seen).at[index].add(1, mode="drop")
    moved = moved / jnp.maximum(times[index], 1)[:, None]
    average = state.average.at[index].add(moved, mode="drop")
    return _placed(Predictions(average, state.seen + (times > 0)), axis_name)


def _placed(state: Predictions, axis_name: str | None) -> Predictions:
    """Split by image over an axis of the mesh, under `jit`."""
    mesh = jax.sharding.get_abstract_mesh()
    if axis_name is None or is_mapped(axis_name) or axis_name not in mesh.axis_names:
        return state
    if len(state.seen) % mesh.shape[axis_name]:
        return state  # every device keeps all
    return jax.lax.with_sharding_constraint(state, PartitionSpec(axis_name))
