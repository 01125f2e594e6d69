"""Penalties on derivatives with respect to the input, all computed from one linearisation.

Every one is a squared norm of vector-Jacobian products, `sum_k ||J' A e_k||^2 = Tr(J' A A' J)`,
where `J [C, D]` is the Jacobian of an example's logits: `A = I` for the logits themselves, `A = H`
for the softmax output and `A A' = H` for the Hessian-scaled trace, with `H = diag(p) - pp'`. The
exact sum takes C backward passes; `probes` random signs in place of the unit vectors take one each,
and estimate value and parameter gradient without bias, as their draw depends on no parameter.

In training mode BatchNorm couples the examples of a batch: as in the papers' programs, the gradient
of the summed loss is taken in that mode. `batch_norm="frozen"` takes the running averages instead,
where examples are independent, at the price of a second forward pass. In training mode probes draw
signs of their own for every example, so their mean lacks the products of two examples' derivatives:
it is `sum_j ||A_j d logits_j / d x_i||^2`, where the exact term squares the sum over j.

So the Hessian-scaled terms depend in training mode on which `A` with `A A' = H` is taken, for the
exact term has products `A_j A_k'` of two examples, which H does not determine. Here it is
`diag(sqrt(p)) - p sqrt(p)'` (`rj.traces.hessian_root`); frozen statistics and networks without
BatchNorm give the same for every root.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from regjax.core.axes import varying_as
from regjax.core.batch import Batch, example_keys, shares
from regjax.core.checks import check_one_label
from regjax.core.point import Point
from regjax.core.stages import Count, Range, penalty
from regjax.gradient.traces import (
    Linear,
    exact_trace,
    hessian_root,
    mean_exact_trace,
    probed_traces,
    softmax_jacobian,
    squared_norm,
)


@penalty
def double_backprop(point: Point, *, batch_norm: str = "batch") -> jax.Array:
    """The squared gradient of the loss with respect to the input, as a penalty.

    `||d loss_i / d x_i||^2`. See the thesis, eq. (49); "Improving generalization performance using
    double backpropagation" (Drucker and LeCun, 1992). One backward pass.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      batch_norm: `"batch"` or `"frozen"`, by which statistics it normalises (see the module).

    Returns:
      A `Loss` with a penalty `[B]`, squared nats per squared unit of the input.

    Raises:
      ValueError: at trace time, `batch_norm` is neither.

    Example:
      >>> import regjax as rj
      >>> rj.double_backprop(rj.cross_entropy(), weight=0.01)
      cross_entropy | double_backprop(weight=0.01)
    """
    point = _standing(point, batch_norm)
    return squared_norm(point.pullback(point.loss_cotangent()))


@penalty
def jacobian(
    point: Point,
    batch: Batch,
    key: jax.Array,
    *,
    probes: Count | None = None,
    batch_norm: str = "batch",
) -> jax.Array:
    """The squared Jacobian of the softmax output with respect to the input, as a penalty.

    `||J_f||_F^2 = Tr(J' H H J)`. See the thesis, eq. (50); "Robust large margin deep neural
    networks" (Sokolic et al., 2017).

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      probes: None for the exact norm, or how many random probes estimate it without bias.
      batch_norm: `"batch"` or `"frozen"`, by which statistics it normalises (see the module).

    Returns:
      A `Loss` with a penalty per squared unit of the input: `[B]` with probes, a scalar, the mean,
      without.

    Raises:
      ValueError: at trace time, `probes` or `batch_norm` is none of these.

    Example:
      >>> import regjax as rj
      >>> rj.jacobian(rj.cross_entropy(), weight=0.01, probes=1)
      cross_entropy | jacobian(weight=0.01, probes=1)
    """
    point = _standing(point, batch_norm)
    return _trace(point, batch, key, softmax_jacobian(point.outputs.logits), probes)


@penalty
def frobenius(
    point: Point,
    batch: Batch,
    key: jax.Array,
    *,
    probes: Count | None = None,
    batch_norm: str = "batch",
) -> jax.Array:
    """The squared Jacobian of the logits with respect to the input, as a penalty.

    `||J_g||_F^2 = Tr(J' J)`. See the thesis, eq. (56); "Robust Learning with Jacobian
    Regularization" (Hoffman et al., 2019), whose program takes half of it.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      probes: None for the exact norm, or how many random probes estimate it without bias.
      batch_norm: `"batch"` or `"frozen"`, by which statistics it normalises (see the module).

    Returns:
      A `Loss` with a penalty in squared logits per squared unit of the input: `[B]` with probes, a
      scalar, the mean, without.

    Raises:
      ValueError: at trace time, `probes` or `batch_norm` is none of these.

    Example:
      >>> import regjax as rj
      >>> rj.frobenius(rj.cross_entropy(), weight=0.01)
      cross_entropy | frobenius(weight=0.01)
    """
    point = _standing(point, batch_norm)
    return _trace(point, batch, key, lambda z: z, probes)


@penalty
def hessian_frobenius(
    point: Point,
    batch: Batch,
    key: jax.Array,
    *,
    power: Annotated[int, Range(1, 2)] = 1,
    probes: Count | None = None,
    batch_norm: str = "batch",
) -> jax.Array:
    """The squared Jacobian of the logits, scaled by the Hessian of cross entropy, as a penalty.

    `Tr(J' H J)^power`, for power 1 twice the expected gain of cross entropy under small unit noise.
    See the thesis, eqs. (62), (63) and, with power 2, (66). hsfob-db1 and hsfob-db2 are
    `double_backprop(hessian_frobenius(loss, weight=w, power=power), weight=w)`. With BatchNorm in
    training mode the exact value depends on the root of H that is taken (see the module).

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      power: 1, or 2 for the squared trace.
      probes: None for the exact trace, or how many random probes estimate it without bias; the
        squared trace needs at least 2, since it is the product of independent estimates.
      batch_norm: `"batch"` or `"frozen"`, by which statistics it normalises (see the module).

    Returns:
      A `Loss` with a penalty in nats per squared unit of the input, to the `power`: a scalar, the
      mean, with power 1 and no probes, else `[B]`.

    Raises:
      ValueError: at trace time, an argument is none of these.

    Example:
      >>> import regjax as rj
      >>> rj.hessian_frobenius(rj.cross_entropy(), weight=0.01, power=2)
      cross_entropy | hessian_frobenius(weight=0.01, power=2)
    """
    if power not in (1, 2):
        raise ValueError(f"hessian_frobenius's power must be 1 or 2, but it is {power!r}.")
    point = _standing(point, batch_norm)
    return _trace(point, batch, key, hessian_root(point.outputs.logits), probes, power)


def _standing(point: Point, batch_norm: str) -> Point:
    if batch_norm not in ("batch", "frozen"):
        raise ValueError(f"batch_norm must be 'batch' or 'frozen', but it is {batch_norm!r}.")
    return point if batch_norm == "batch" else point.frozen


def _trace(
    point: Point,
    batch: Batch,
    key: jax.Array,
    factor: Linear,
    probes: int | None,
    power: int = 1,
) -> jax.Array:
    if probes is None:
        check_one_label(batch, "a penalty on the exact Jacobian, without probes=,")
    size, classes = batch.label.shape[0], batch.label.shape[-1]
    if probes is None and power == 1:
        share = varying_as(shares(batch), batch.image)  # as all that it meets, under shard_map
        return mean_exact_trace(point.pullback, factor, classes, share)
    if probes is None:
        return exact_trace(point.pullback, factor, classes, size) ** power
    if not isinstance(probes, int) or isinstance(probes, bool) or probes < power:
        raise ValueError(
            f"probes must be None or a whole number of at least {power}, but it is {probes!r}."
        )
    factor, shape = _of_positions(factor, batch.label), batch.label.shape[1:]
    traces = probed_traces(point.pullback, factor, shape, example_keys(key, batch), probes)
    if power == 1:
        return jnp.mean(traces, axis=0)
    # The mean over pairs of different probes: the square of the mean is biased by its variance.
    pairs = jnp.sum(traces, axis=0) ** 2 - jnp.sum(traces**2, axis=0)
    return pairs / (probes * (probes - 1))


def _of_positions(factor: Linear, label: jax.Array) -> Linear:
    """Of dense labels, the factor that makes of the trace the mean over labelled positions."""
    if label.ndim == 2:
        return factor
    labelled = jnp.any(label > 0, -1, keepdims=True)
    number = jnp.sum(labelled, tuple(range(1, label.ndim)), keepdims=True, dtype=jnp.float32)
    share = jnp.where(labelled, jax.lax.rsqrt(jnp.maximum(number, 1)), 0)
    return lambda z: share * factor(z)
