"""The gradient of a batch: taken part by part, and averaged over devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import regjax as rj
from experiments.training.task import Metrics
from regjax.core.axes import varying_as
from regjax.core.loss import labeled_total, unlabeled_total


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
    of_both = any(stage.definition.over == "unlabeled" for stage in loss.stages)

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

        def objective(params: Any) -> tuple[jax.Array, tuple[rj.Result, rj.LossState]]:
            forward = salted(network(params, model_state), lambda: number)
            result, following = loss.apply(given, forward, batch, key, part=number)
            total = labeled_total(result, batch, axis_name)
            if of_both:
                unlabeled = unlabeled_total(result, batch, axis_name)
                total = shares[0] * total + shares[1] * unlabeled
            return total, (result, following)

        total, (result, loss_state), direction = mean_gradient(objective, params, batch, axis_name)
        if not of_both:  # one share for all, which needs no derivative
            direction, total = jax.tree.map(lambda x: shares[0] * x, (direction, total))
        metrics = {}
        for name, value in result.metrics.items():
            kind = int(name in result.unlabeled)
            metrics[name] = shares[kind] * _sum(each[kind] * value, axis_name)
        return (result.outputs.state, loss_state), (direction, {"total": total, **metrics})

    carry = (model_state, loss_state)
    if parts == 1:
        carry, (direction, metrics) = part(carry, (jnp.int32(0), batch))
        return Gradient(direction, metrics, *carry)

    def split(x: jax.Array) -> jax.Array:
        # Every part takes its examples from all devices.
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    numbered = (jnp.arange(parts), jax.tree.map(split, batch))
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
