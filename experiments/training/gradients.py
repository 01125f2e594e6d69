"""The gradient of a batch: taken part by part, and averaged over devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import regjax as rj
from experiments.training.task import Metrics
from regjax.core.axes import varying_as
from regjax.core.result import labeled_means, unlabeled_total


class Gradient(NamedTuple):
    """What a batch says of the next step.

    Attributes:
      direction: the gradient, a pytree like the parameters.
      metrics: scalars by name, "total" among them, the same on every device.
      model_state: the model's statistics after the batch.
      loss_state: the loss's state after the batch.
    """

    direction: Any
    metrics: Metrics
    model_state: Any
    loss_state: rj.LossState


def gradient(
    network: Callable[[Any, Any], rj.Forward],
    params: Any,
    model_state: Any,
    loss_state: rj.LossState,
    loss: rj.Loss,
    batch: rj.Batch,
    key: jax.Array,
    *,
    parts: int = 1,
    axis_name: str | None = None,
) -> Gradient:
    """The gradient of a loss with respect to the parameters, over all parts and devices.

    Args:
      network: `(params, model_state) -> Forward`.
      params: with respect to which the gradient is taken.
      model_state: the model's statistics.
      loss_state: the loss's state.
      loss: to be minimised, with `axis_name` in its stages where there is one.
      batch: under `pmap` or `shard_map` this device's examples; with a weight.
      key: of the step.
      parts: of a batch, of one size, whose gradients are taken one after the other.
      axis_name: the mapped axis over which the batch is spread.
    """
    assert batch.weight is not None
    whole, start = _weights(batch, axis_name), loss_state
    base_name = next(iter(loss.named()))[0]
    of_unlabeled = any(stage.definition.over == "unlabeled" for stage in loss.stages)

    def in_base(numbered: tuple[jax.Array, rj.Batch]) -> jax.Array | None:
        """What a part of all devices counts in the base's mean; None if as its examples do."""
        number, batch = numbered
        forward = network(params, model_state)
        weight = loss.weight(start, forward, batch, key, number)
        return None if weight is None else _sum(jnp.sum(weight), axis_name)

    def part(carry: Any, numbered: tuple[jax.Array, rj.Batch]) -> tuple[Any, Any]:
        number, batch = numbered
        assert batch.weight is not None
        model_state, loss_state = carry
        given = _given(loss, start, loss_state)
        mine, all_devices = _weights(batch, None), _weights(batch, axis_name)
        # What a device's means count in the mean over all, and that in the mean over all parts,
        # of labelled and of unlabelled examples.
        each = [a / _positive(b) for a, b in zip(mine, all_devices, strict=True)]
        shares = [a / _positive(b) for a, b in zip(all_devices, whole, strict=True)]

        def share_of_base(result: rj.Result) -> Any:
            """The share of the base's mean, where examples count otherwise than in penalties."""
            if result.weight is None or whole_base is None:
                return shares[0]
            return _sum(jnp.sum(result.weight), axis_name) / _positive(whole_base)

        def objective(params: Any) -> tuple[jax.Array, tuple[rj.Result, rj.LossState]]:
            forward = salted(network(params, model_state), lambda: number)
            result, following = loss.apply(given, forward, batch, key, part=number)
            means = labeled_means(result, batch, axis_name)
            if result.weight is not None:
                means = [share_of_base(result) * means[0], *(shares[0] * m for m in means[1:])]
            total = functools.reduce(jnp.add, means)
            if of_unlabeled:
                total = total if result.weight is not None else shares[0] * total
                total = total + shares[1] * unlabeled_total(result, batch, axis_name)
            return total, (result, following)

        total, (result, loss_state), direction = mean_gradient(objective, params, batch, axis_name)
        # One share for all needs no derivative.
        if not of_unlabeled and result.weight is None:
            direction, total = jax.tree.map(lambda x: shares[0] * x, (direction, total))
        metrics = {}
        for name, value in result.metrics.items():
            kind = int(name in result.unlabeled)
            if name == base_name and result.weight is not None:
                own = jnp.sum(result.weight)
                own = own / _positive(_sum(own, axis_name))
                metrics[name] = share_of_base(result) * _sum(own * value, axis_name)
            else:
                metrics[name] = shares[kind] * _sum(each[kind] * value, axis_name)
        return (result.outputs.state, loss_state), (direction, {"total": total, **metrics})

    carry = (model_state, loss_state)
    whole_base = None
    if parts == 1:
        carry, (direction, metrics) = part(carry, (jnp.int32(0), batch))
        return Gradient(direction, metrics, *carry)

    def split(x: jax.Array) -> jax.Array:
        # Every part takes its examples from all devices.
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    numbered = (jnp.arange(parts), jax.tree.map(split, batch))
    if jax.eval_shape(in_base, jax.tree.map(lambda x: x[0], numbered)) is not None:
        whole_base = jnp.sum(jax.lax.map(in_base, numbered))
    carry, taken = jax.lax.scan(part, carry, numbered)
    direction, metrics = jax.tree.map(lambda x: x.sum(0), taken)
    return Gradient(direction, metrics, *carry)


def mean_gradient(
    objective: Callable[[Any], tuple[jax.Array, Any]],
    params: Any,
    batch: rj.Batch,
    axis_name: str | None,
) -> tuple[jax.Array, Any, Any]:
    """An objective's value and gradient, averaged over devices.

    Args:
      objective: `params -> (value, anything)` of this device's batch.
      params: with respect to which the gradient is taken.
      batch: this device's.
      axis_name: the mapped axis of the devices; None where there is none.

    Returns:
      The value, what came with it on this device, and the gradient.
    """
    # Of the device's own copy, so that the gradient is its own until the mean is taken.
    own = jax.tree.map(lambda p: varying_as(p, batch.image), params)
    (value, more), direction = jax.value_and_grad(objective, has_aux=True)(own)
    value, direction = mean((value, direction), axis_name)
    return value, more, direction


def mean(tree: Any, axis_name: str | None) -> Any:
    """The mean over the devices of a mapped axis, the same on each; None leaves it as it is."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _given(loss: rj.Loss, start: rj.LossState, now: rj.LossState) -> rj.LossState:
    """What a part is given of the states: all parts are one step, for schedules and for states."""
    in_parts = loss.in_parts()
    stages = {
        name: now.stages[name] if name in in_parts else start.stages[name] for name in start.stages
    }
    return rj.LossState(start.step, stages)


def salted(forward: rj.Forward, salt: Callable[[], jax.Array]) -> rj.Forward:
    """The network with other dropout masks for every salt, for use inside the current trace."""

    def apply(params: Any, state: Any, x: jax.Array, key: Any, *rest: Any) -> rj.Outputs:
        key = None if key is None else jax.random.fold_in(key, salt())
        return forward.apply(params, state, x, key, *rest)

    return forward.replace(apply=apply)


def _weights(batch: rj.Batch, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """The sum of the weights of the examples, and of the unlabelled ones."""

    def whole(batch: rj.Batch | None) -> jax.Array:
        if batch is None:
            return jnp.zeros(())
        size = jnp.float32(len(batch.image))
        return _sum(size if batch.weight is None else jnp.sum(batch.weight), axis_name)

    return whole(batch), whole(batch.unlabeled)


def _sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def _positive(weight: jax.Array) -> jax.Array:
    return jnp.where(weight == 0, 1, weight)
