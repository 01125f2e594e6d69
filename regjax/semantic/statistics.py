"""Means and covariances of features by class, estimated online: a pure pair, `init` and `update`.

What was seen may be split over batches, devices or processes in any way: the statistics are those
of all of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from regjax.core.axes import by_class, columns, everywhere, is_mapped, is_split
from regjax.core.precision import wide
from regjax.semantic.covariance import KINDS, Diagonal, Full, LowRank, Merge, Shared

Covariance = Full | Diagonal | LowRank


class ClassStatistics(NamedTuple):
    """What was seen of each class; float32, or float64 where the features are.

    Attributes:
      seen: `[C]`, n, the sum of the weights of its examples.
      mean: `[C, A]`, mu, the mean of its features.
      covariance: `Full(matrix [C, A, A])`, `Diagonal(variance [C, A])` or `LowRank(sketch
        [C, R, A])`, biased (divided by n); 0 for classes that have not occurred.
      pooled: the mean of the covariances by count, `[A, A]` or, with `Diagonal`, `[A]`; None where
        it is not kept.
    """

    seen: jax.Array
    mean: jax.Array
    covariance: Covariance
    pooled: jax.Array | None


def init(
    classes: int,
    features: int,
    *,
    covariance: str = "full",
    rank: int | None = None,
    pooled: bool = False,
    dtype: Any = jnp.float32,
) -> ClassStatistics:
    """The statistics before anything was seen, all 0.

    Args:
      classes: C.
      features: A.
      covariance: "full" takes `C A^2` numbers, "diagonal" `C A`, "low_rank" `C R A`.
      rank: R, the number of rows of each class's sketch; for "low_rank" only.
      pooled: whether to keep the mean covariance too, for shrinkage.
      dtype: float32 or float64.

    Returns:
      `ClassStatistics`.

    Raises:
      ValueError: an unknown covariance, a rank that is missing, of no use or below 1, `pooled` with
        a sketch.

    Example:
      >>> init(10, 64).covariance.matrix.shape
      (10, 64, 64)
    """
    check_kind(covariance, rank, pooled)
    moments = KINDS[covariance].zeros(classes, features, dtype, rank)
    shape = (features,) * (1 if covariance == "diagonal" else 2)
    return ClassStatistics(
        jnp.zeros(classes, dtype),
        jnp.zeros((classes, features), dtype),
        moments,
        jnp.zeros(shape, dtype) if pooled else None,
    )


def check_kind(covariance: str, rank: int | None, pooled: bool) -> None:
    """Refuses unknown kinds of covariance, and a rank or pooling that does not go with one."""
    if covariance not in KINDS:
        raise ValueError(
            f"unknown covariance {covariance!r}; known are: {', '.join(KINDS)}, and to isda "
            "'identity'."
        )
    if (covariance == "low_rank") != (rank is not None):
        raise ValueError(
            f"covariance='low_rank' needs a rank, such as rank=16, and no other has one, but "
            f"covariance={covariance!r} was given rank={rank!r}."
        )
    if rank is not None and (not isinstance(rank, int) or rank < 1):
        raise ValueError(f"the rank must be a whole number of at least 1, but it is {rank!r}.")
    if pooled and covariance not in ("full", "diagonal"):
        raise ValueError(
            f"shrinkage towards the pooled covariance is for 'full' and 'diagonal', not for "
            f"{covariance!r}."
        )


def update(
    statistics: ClassStatistics,
    features: jax.Array,
    label: jax.Array,
    *,
    weight: jax.Array | None = None,
    decay: float | jax.Array | None = None,
    axis_name: str | None = None,
) -> ClassStatistics:
    """The statistics with a batch merged into them, exactly.

    With `m`, `mu'` and `Sigma'` of a class in the batch and `w = m / (n + m)`:
    `Sigma <- (1 - w) Sigma + w Sigma' + w (1 - w) (mu - mu')(mu - mu')'`,
    `mu <- mu + w (mu' - mu)`, `n <- n + m`. See ISDA, eqs. (1) to (3). Soft labels are weights: an
    example counts `label_ic` for class c. Classes that do not occur stay as they are. Nothing is
    differentiated.

    Takes about `B A^2 + (classes in the batch) A^2` multiplications for full covariances.

    Args:
      statistics: what `init` or the last `update` returned, the state of one `covariance`.
      features: `[B, ..., A]`, of any floating type.
      label: `[B, ..., C]` probabilities; all 0 where a position has no label, which then does not
        count. One column stands for one covariance of all classes.
      weight: `[B]`, 0 on padding.
      decay: what every earlier example still counts after each batch, between 0 and 1; None
        forgets nothing.
      axis_name: under `pmap` and `shard_map`, the axis over whose devices the batch is split. The
        statistics may be whole on each, or split by class. Under `jit`, an axis of the mesh that
        `jax.set_mesh` set: the statistics are then split over it by class.

    Returns:
      `ClassStatistics`.

    Raises:
      ValueError: shapes that do not fit; an axis that there is not, or that C cannot be split over.

    Example:
      >>> past = init(2, 1)
      >>> features, label = jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])
      >>> now = update(past, features, label)
      >>> print(now.seen, now.mean[0], now.covariance.matrix[0])
      [2. 0.] [2.] [[1.]]
    """
    features, label = _examples(statistics, features, label, weight)
    decay = None if decay is None else jnp.asarray(decay, statistics.seen.dtype)
    if axis_name is not None and is_mapped(axis_name):
        features, label = (everywhere(x, axis_name) for x in (features, label))
    merge: Callable[..., ClassStatistics] = functools.partial(_update, axis_name=axis_name)
    if axis_name is not None:
        split = places(statistics, axis_name)
        merge = by_class(merge, axis_name, label.shape[1], split, to=split)
    # Accelerators round the factors of products otherwise.
    with jax.default_matmul_precision("highest"):
        return merge(statistics, features, label, decay)


def _examples(
    statistics: ClassStatistics, features: jax.Array, label: jax.Array, weight: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Features `[N, A]` and what they count for each class `[N, C]`."""
    if features.shape[:-1] != label.shape[:-1] or features.shape[-1] != statistics.mean.shape[-1]:
        raise ValueError(
            f"features [B, ..., A] and labels [B, ..., C] must agree in all but the last axis, "
            f"with A = {statistics.mean.shape[-1]}, but they are {list(features.shape)} and "
            f"{list(label.shape)}."
        )
    features, label = jax.lax.stop_gradient((wide(features), wide(label)))
    if weight is not None:
        label = label * jnp.expand_dims(weight, range(1, label.ndim))
    features, label = (x.reshape(-1, x.shape[-1]) for x in (features, label))
    # What padding yields may be NaN, and zero times that is NaN.
    counted = jnp.any(label > 0, axis=1, keepdims=True)
    dtype = statistics.mean.dtype
    return jnp.where(counted, features, 0).astype(dtype), jnp.where(counted, label, 0).astype(dtype)


def _update(
    statistics: ClassStatistics,
    features: jax.Array,
    label: jax.Array,
    decay: jax.Array | None,
    *,
    axis_name: str | None,
) -> ClassStatistics:
    """With all examples, of the classes that are kept on this device."""
    seen, mean, covariance, pooled = jax.lax.stop_gradient(statistics)
    own = columns(label, len(seen), axis_name)
    seen = seen if decay is None else decay * seen
    m = jnp.sum(own, 0)
    size, now = jnp.where(m > 0, m, 1), seen + m
    middle = _middle(features, jnp.sum(own, 1))
    features, past = features - middle, mean - middle
    batch_mean = jnp.where((m > 0)[:, None], own.T @ features / size[:, None], past)
    step, share = past - batch_mean, m / jnp.where(now > 0, now, 1)
    merge = Merge(features, own, size, batch_mean, step, share)
    if pooled is not None:
        split_over = axis_name if is_split(len(seen), label.shape[1], axis_name) else None
        pooled = _pool(pooled, seen, merge, split_over)
    mean = mean - share[:, None] * step
    return ClassStatistics(now, mean, covariance.merged(merge), pooled)


def _middle(features: jax.Array, weight: jax.Array) -> jax.Array:
    """A point amid the features, `[1, A]`."""
    return (weight / jnp.maximum(jnp.sum(weight), 1e-30))[None] @ features


def _pool(pooled: jax.Array, seen: jax.Array, merge: Merge, split_over: str | None) -> jax.Array:
    """The mean covariance with a batch; of all classes, also where they are split over devices."""
    square = _squares if pooled.ndim == 2 else _diagonal_squares
    size, mass = jnp.sum(merge.weight, 0), jnp.sum(merge.weight, 1)
    # From each example's own class mean, or what its soft label makes of several, whose distances
    # come on top. Squares of the features themselves would cancel where classes are far apart.
    own = merge.weight @ merge.mean / jnp.where(mass > 0, mass, 1)[:, None]
    soft = jnp.any(jnp.sum(merge.weight > 0, 1) > 1)
    added = square(merge.features - own, mass)
    added = added + jnp.where(soft, square(merge.mean, size) - square(own, mass), 0)
    added = added + square(merge.step, size * (1 - merge.share))
    before, now = jnp.sum(seen), jnp.sum(size)
    if split_over is not None:
        added, before, now = jax.lax.psum((added, before, now), split_over)
    return (before * pooled + added) / jnp.where(before + now > 0, before + now, 1)


def _squares(x: jax.Array, weight: jax.Array) -> jax.Array:
    return x.T @ (x * weight[:, None])


def _diagonal_squares(x: jax.Array, weight: jax.Array) -> jax.Array:
    return weight @ x**2


def is_shared(statistics: ClassStatistics) -> bool:
    """Whether one covariance of all features stands for every class, as in Table 8 of the paper."""
    return isinstance(statistics.covariance, Shared)


def placed(statistics: ClassStatistics, axis_name: str | None, classes: int) -> ClassStatistics:
    """The statistics split by class over an axis of the mesh from the start, under `jit`."""
    mesh = jax.sharding.get_abstract_mesh()
    if axis_name is None or is_mapped(axis_name) or is_shared(statistics):
        return statistics
    if axis_name not in mesh.axis_names or classes % mesh.shape[axis_name]:
        return statistics  # refused where the loss is applied
    return jax.lax.with_sharding_constraint(statistics, places(statistics, axis_name))


def places(statistics: ClassStatistics, axis_name: str) -> Any:
    """How statistics that are split by class lie on the axis: `PartitionSpec`s, as a pytree.

    Args:
      statistics: arrays or shapes.
      axis_name: an axis of a mesh.

    Returns:
      A pytree of the statistics' structure, for `in_specs`, `out_specs` and `NamedSharding`; one
      covariance of all classes is not split.

    Example:
      >>> places(init(4, 2), "data").mean
      P('data',)
    """
    where = PartitionSpec() if is_shared(statistics) else PartitionSpec(axis_name)
    split = jax.tree.map(lambda _: where, statistics._replace(pooled=None))
    return split._replace(pooled=None if statistics.pooled is None else PartitionSpec())
