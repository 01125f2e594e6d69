"""The mathematics of semantic augmentation: features moved along their class's own directions.

A feature `a` of class y is thought of as `N(a, lambda Sigma_y)`; `z = W'a + b` are the logits.

An erratum: in print, ISDA's eqs. (7) and (15) lack lambda in their exponents. The proof has it: the
variance is `lambda v'Sigma v`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from regjax.core.axes import by_class, columns, everywhere, is_mapped, is_split, varying_as
from regjax.core.control import recomputed, when
from regjax.core.precision import wide
from regjax.losses.cross_entropy import counted, log_probabilities
from regjax.semantic.statistics import ClassStatistics, is_shared, places


# Accelerators round the factors of float32 products otherwise, and differences of products cancel.
@jax.default_matmul_precision("highest")
def differences(
    statistics: ClassStatistics | None,
    kernel: jax.Array,
    label: jax.Array,
    *,
    shrinkage: float | jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """The spread of the logits' differences to a class's own, for each class that occurs.

    `Q_cj = (w_j - w_c)' Sigma_c (w_j - w_c)`, the variance of `z_j - z_c` under `Sigma_c`; see
    ISDA, eq. (7). With shrinkage rho, `(1 - rho) Sigma_c + rho Sigma_pooled` takes its place. Takes
    `C A^2` multiplications a class for full covariances, `2 C A` for diagonal ones, `C A R`
    for sketches; about as much again for its gradient.

    Args:
      statistics: of C classes, or "shared" by all; None stands for the identity matrix.
      kernel: `[A, C]`, the last layer's weights `w`, to which gradients flow.
      label: `[..., C]`, of the examples at hand.
      shrinkage: rho, between 0 and 1; None for none.
      axis_name: as in `rj.statistics.update`.

    Returns:
      `[C, C]`, 0 for classes that do not occur in `label`, not multiplied by any strength.

    Raises:
      ValueError: shrinkage without a pooled covariance; as `rj.statistics.update`.

    Example:
      >>> print(differences(None, jnp.eye(2), jnp.eye(2)))
      [[0. 2.]
       [2. 0.]]
    """
    kernel, classes = wide(kernel), kernel.shape[1]
    if statistics is None:
        return _from_gram(kernel.T @ kernel)
    if is_shared(statistics):
        return _from_gram(statistics.covariance.gram(kernel, jnp.zeros((), int)))
    present = jnp.any(label.reshape(-1, classes) > 0, axis=0)
    if axis_name is not None and is_mapped(axis_name) and len(statistics.seen) < classes:
        # The devices that keep a class work for all examples of it.
        present = jnp.any(everywhere(present[None], axis_name), axis=0)
    table = _on_devices(_table, statistics, classes, axis_name)
    result = table(statistics, kernel, present)
    scale, extra = _pooled(statistics, kernel, shrinkage)
    return scale * result + extra


def _pooled(
    statistics: ClassStatistics, kernel: jax.Array, shrinkage: float | jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """`1 - rho`, and rho times the table of the pooled covariance."""
    if shrinkage is None:
        return jnp.ones((), kernel.dtype), jnp.zeros((), kernel.dtype)
    if statistics.pooled is None:
        raise ValueError("shrinkage needs statistics that were made by init(..., pooled=True).")
    pooled, rho = jax.lax.stop_gradient(statistics.pooled), jnp.asarray(shrinkage, kernel.dtype)
    spread = pooled @ kernel if pooled.ndim == 2 else pooled[:, None] * kernel
    return 1 - rho, rho * _from_gram(kernel.T @ spread)


def _on_devices(
    function: Callable[..., Any], statistics: ClassStatistics, classes: int, axis_name: str | None
) -> Callable[..., Any]:
    """Where the statistics are split by class, each device works on its own."""
    function = functools.partial(function, axis_name=axis_name)
    if axis_name is None:
        return function
    split = places(statistics, axis_name)
    return by_class(function, axis_name, classes, split, to=PartitionSpec())


def _from_gram(gram: jax.Array) -> jax.Array:
    """`|v_j - v_c|^2` of `v_j'v_c`, exactly 0 where j is c."""
    squares = jnp.diagonal(gram)
    apart = squares[:, None] + squares[None] - gram - gram.T
    return jnp.where(jnp.eye(len(gram), dtype=bool), 0, apart)


def _table(
    statistics: ClassStatistics, kernel: jax.Array, present: jax.Array, *, axis_name: str | None
) -> jax.Array:
    """`Q` by pieces of classes, of which those without examples are skipped."""
    covariance = jax.lax.stop_gradient(statistics.covariance)
    kept, classes = len(statistics.seen), kernel.shape[1]
    first = 0 if kept == classes else kept * jax.lax.axis_index(axis_name)
    own = columns(present, kept, axis_name)
    kernel = varying_as(kernel, own)
    chunk = min(covariance.chunk, kept)
    # Classes that occur come first, so that whole pieces without any are skipped.
    order = jnp.argsort(~own)
    pieces = jnp.pad(order, (0, -kept % chunk), mode="edge").reshape(-1, chunk)

    def piece(rows: jax.Array) -> jax.Array:
        return when(jnp.any(own[rows]), covariance.differences, kernel, rows, first + rows)

    piece = piece if covariance.keeps_little(classes) else jax.checkpoint(piece)
    found = jax.lax.map(piece, pieces).reshape(-1, classes)[jnp.argsort(order)]
    found = jnp.where(own[:, None], found, 0)
    if axis_name is None or not is_split(kept, classes, axis_name):
        return found
    return everywhere(found, axis_name)


def upper_bound(logits: jax.Array, label: jax.Array, spread: jax.Array) -> jax.Array:
    """The upper bound of the expected cross entropy under semantic augmentation.

    `-log(exp(z_y) / sum_j exp(z_j + spread_yj))` with `spread = lambda / 2 Q`; see ISDA, eq. (7).
    With soft labels, its expectation over the label. One label an example takes `B C` exponentials,
    two twice as many, more than two `B C^2`.

    Args:
      logits: `[..., C]`, of the features as they are.
      label: `[..., C]` probabilities.
      spread: `[C, C]`, as `differences` returns it, times half the strength.

    Returns:
      `[...]`, nats, not averaged; 0 where all of a label is 0.

    Example:
      >>> z, y = jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]])
      >>> print(upper_bound(z, y, jnp.log(jnp.array([[1.0, 3.0], [3.0, 1.0]]))))
      [1.3862944]
    """
    shape, classes = label.shape[:-1], label.shape[-1]
    z, label = wide(logits).reshape(-1, classes), label.reshape(-1, classes)
    # Hard labels name one class, mixed ones two; a sort for the largest two would cost far more.
    total, rest = _strongest(z, label, spread), _without_largest(label)
    total = total + when(jnp.any(rest > 0), _strongest, z, rest, spread)
    if classes > 2:
        rest = _without_largest(rest)
        total = total + when(jnp.any(rest > 0), _expectation, z, rest, spread)
    return total.reshape(shape)


def _strongest(z: jax.Array, label: jax.Array, spread: jax.Array) -> jax.Array:
    """What the largest entry of each label has in the bound."""
    moved = log_probabilities(z + spread[jnp.argmax(label, -1)])
    return -jnp.sum(counted(jnp.where(_is_largest(label), label, 0), moved), -1)


def _without_largest(label: jax.Array) -> jax.Array:
    return jnp.where(_is_largest(label), 0, label)


def _is_largest(label: jax.Array) -> jax.Array:
    largest = jnp.argmax(label, -1)
    return largest[:, None] == jnp.arange(label.shape[-1])[None]


@recomputed
def _expectation(z: jax.Array, label: jax.Array, spread: jax.Array) -> jax.Array:
    """The bound's expectation over labels of many classes, class by class."""

    @jax.checkpoint
    def one(total: jax.Array, of_class: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        c, weight, moved = of_class
        log_probability = log_probabilities(z + moved[None])[:, c]
        return total - counted(weight, log_probability), None

    start = jnp.zeros_like(z[:, 0]) * jnp.zeros_like(label[:, 0]) * jnp.zeros_like(spread[0, 0])
    total, _ = jax.lax.scan(one, start, (jnp.arange(len(spread)), label.T, spread))
    return total


@jax.default_matmul_precision("highest")
def consistency_bound(
    logits: jax.Array,
    statistics: ClassStatistics | None,
    kernel: jax.Array,
    *,
    strength: float | jax.Array,
    shrinkage: float | jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """The upper bound of the expected divergence of unlabelled examples from themselves, moved.

    `sum_k p_k lse_j(z_j - z_k + lambda / 2 (w_j - w_k)' Sigma_y (w_j - w_k))`, where predictions
    `p = softmax(z)` are held fixed and y, the pseudo-label, is the likeliest class; see ISDA,
    eq. (15). It is a bound of the divergence plus p's entropy. Examples come one after another;
    each takes `C A^2` multiplications for full covariances.

    Args:
      logits: `[B, ..., C]`.
      statistics: as in `differences`.
      kernel: `[A, C]`, the last layer's weights, to which gradients flow.
      strength: lambda.
      shrinkage: as in `differences`.
      axis_name: as in `rj.statistics.update`.

    Returns:
      `[B, ...]`, nats, not averaged.

    Example:
      >>> z = jnp.zeros((1, 2))
      >>> print(consistency_bound(z, None, jnp.zeros((3, 2)), strength=0.5))
      [0.6931472]
    """
    z, kernel, classes = wide(logits), wide(kernel), logits.shape[-1]
    if statistics is None or is_shared(statistics):
        spread = 0.5 * strength * differences(statistics, kernel, z)
        return upper_bound(z, jax.lax.stop_gradient(jax.nn.softmax(z)), spread)
    flat = z.reshape(-1, classes)
    split = axis_name is not None and is_mapped(axis_name) and len(statistics.seen) < classes
    # The device that keeps a class works for all examples of it.
    whole = everywhere(flat, axis_name) if split and axis_name is not None else flat
    consistency = _on_devices(_consistency, statistics, classes, axis_name)
    scale, extra = _pooled(statistics, kernel, shrinkage)
    half = 0.5 * jnp.asarray(strength, z.dtype)
    found = consistency(statistics, kernel, whole, half * scale, half * extra)
    if split and axis_name is not None:
        found = jax.lax.dynamic_slice_in_dim(
            found, jax.lax.axis_index(axis_name) * len(flat), len(flat)
        )
    return found.reshape(z.shape[:-1])


def _consistency(
    statistics: ClassStatistics,
    kernel: jax.Array,
    logits: jax.Array,
    scale: jax.Array,
    extra: jax.Array,
    *,
    axis_name: str | None,
) -> jax.Array:
    covariance = jax.lax.stop_gradient(statistics.covariance)
    kept, classes = len(statistics.seen), kernel.shape[1]
    first = 0 if kept == classes else kept * jax.lax.axis_index(axis_name)

    logits = varying_as(logits, jnp.asarray(first))
    kernel, scale, extra = (varying_as(x, logits) for x in (kernel, scale, extra))

    @jax.checkpoint
    def one(z: jax.Array) -> jax.Array:
        row = jnp.argmax(z) - first

        def bound(z: jax.Array, kernel: jax.Array, scale: jax.Array, extra: jax.Array) -> jax.Array:
            spread = scale * _from_gram(covariance.gram(kernel, row)) + extra
            moved = jnp.diagonal(log_probabilities(z[None] + spread))
            return -jnp.sum(counted(jax.lax.stop_gradient(jax.nn.softmax(z)), moved))

        return when((row >= 0) & (row < kept), bound, z, kernel, scale, extra)

    found = jax.lax.map(one, logits)
    split = axis_name is not None and is_split(kept, classes, axis_name)
    return jax.lax.psum(found, axis_name) if split else found
