"""The gradient of a batch: taken part by part, and averaged over devices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import regjax as rj
from experiments.rows import Place, every, spread
from experiments.training.task import Metrics
from regjax.core.axes import varying_as
from regjax.core.result import by_images, image_weight, labeled_means, unlabeled_total


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
    by_image: bool = False,
) -> Gradient:
    """The gradient of a loss with respect to the parameters, over all parts and devices.

    Args:
      network: `(params, model_state) -> Forward`.
      params: with respect to which the gradient is taken.
      model_state: the model's statistics.
      loss_state: the loss's state.
      loss: to be minimised, with `axis_name` in its stages where there is one.
      batch: under `pmap` or `shard_map` this device's examples; with a weight, 0 where there is no
        label.
      key: of the step.
      parts: of a batch, of one size, whose gradients are taken one after the other.
      axis_name: the mapped axis over which the batch is spread.
      by_image: whether dense labels count by image, see `rj.total`.
    """
    assert batch.weight is not None
    whole = _weights(batch, axis_name)
    loss_state = loss.begin(loss_state, network(params, model_state))
    step = _Step(network, params, loss, loss_state, key, parts, axis_name, by_image, whole)
    carry = (model_state, loss_state)
    if parts == 1:
        carry, (direction, metrics) = step.part(carry, (jnp.int32(0), batch))
        return Gradient(direction, metrics, *carry)
    numbered = (jnp.arange(parts), jax.tree.map(functools.partial(_split, parts), batch))
    step = step.with_base(model_state, numbered)
    carry, taken = jax.lax.scan(step.part, carry, numbered)
    direction, metrics = jax.tree.map(lambda x: x.sum(0), taken)
    return Gradient(direction, metrics, *carry)


class _Weights(NamedTuple):
    """What examples weigh together, or what share of a whole that is; each `[]`.

    Attributes:
      labeled: of the batch's own examples, over which penalties are means.
      unlabeled: of the second stream's.
      base: of the batch's own in the base's mean; None if as in `labeled`, or not known.
    """

    labeled: jax.Array
    unlabeled: jax.Array
    base: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class _Step:
    """What all parts of a batch share: the arguments of `gradient`, and the weights of the whole.

    The base's is known only where there are several parts: of one, its share is that of all.
    """

    network: Callable[[Any, Any], rj.Forward]
    params: Any
    loss: rj.Loss
    start: rj.LossState
    key: jax.Array
    parts: int
    axis_name: str | None
    by_image: bool
    whole: _Weights

    def with_base(self, model_state: Any, numbered: tuple[jax.Array, rj.Batch]) -> _Step:
        """With the base's weight over all parts, where examples count otherwise in it."""

        def weight(numbered: tuple[jax.Array, rj.Batch]) -> jax.Array | None:
            number, batch = numbered
            forward = self.network(self.params, model_state)
            found = self.loss.weight(self.start, forward, batch, self.key, number)
            if found is None:
                return None
            found = image_weight(found, batch) if self.by_image else found
            return _sum(jnp.sum(found), self.axis_name)

        if jax.eval_shape(weight, jax.tree.map(lambda x: x[0], numbered)) is None:
            return self
        base = jnp.sum(jax.lax.map(weight, numbered))
        return dataclasses.replace(self, whole=self.whole._replace(base=base))

    def part(self, carry: Any, numbered: tuple[jax.Array, rj.Batch]) -> tuple[Any, Any]:
        """From the states before a part to those after it, its gradient and its scalars."""
        number, batch = numbered
        model_state, loss_state = carry
        given = _given(self.loss, self.start, loss_state)
        mine, everywhere = _weights(batch, None), _weights(batch, self.axis_name)
        # Of this device's means in those over all devices, and of these in those over all parts.
        on_device, in_whole = _shares(mine, everywhere), _shares(everywhere, self.whole)

        def objective(params: Any) -> tuple[jax.Array, tuple[rj.Result, rj.LossState]]:
            place = functools.partial(every, self.parts)
            forward = salted(self.network(params, model_state), lambda: number, place)
            # Labels are looked at where data are read; to do so here too rounds otherwise.
            apply = self.loss.apply_weighted
            result, following = apply(given, forward, batch, self.key, part=number)
            result = by_images(result, batch) if self.by_image else result
            return self.value(result, batch, in_whole), (result, following)

        found = mean_gradient(objective, self.params, batch, self.axis_name)
        total, (result, loss_state), direction = found
        if self.counts_alike(result):
            direction, total = jax.tree.map(lambda x: in_whole.labeled * x, (direction, total))
        scalars = {"total": total, **self.metrics(result, on_device, in_whole)}
        return (result.outputs.state, loss_state), (direction, scalars)

    def value(self, result: rj.Result, batch: rj.Batch, in_whole: _Weights) -> jax.Array:
        """What is differentiated: the means by their shares, but for a share that all have."""
        means = labeled_means(result, batch, self.axis_name)
        if result.weight is not None:
            base = self.base_share(result, in_whole)
            means = [base * means[0], *(in_whole.labeled * m for m in means[1:])]
        total = functools.reduce(jnp.add, means)
        if not self.has_unlabeled:
            return total
        total = total if result.weight is not None else in_whole.labeled * total
        return total + in_whole.unlabeled * unlabeled_total(result, batch, self.axis_name)

    def metrics(self, result: rj.Result, on_device: _Weights, in_whole: _Weights) -> Metrics:
        """What the part has in each of the loss's scalars, the same on every device."""
        whole = {}
        for name, value in result.metrics.items():
            own, share = on_device.labeled, in_whole.labeled
            if name in result.unlabeled:
                own, share = on_device.unlabeled, in_whole.unlabeled
            elif name == self.base_name and result.weight is not None:
                weight = jnp.sum(result.weight)
                own = weight / _positive(_sum(weight, self.axis_name))
                share = self.base_share(result, in_whole)
            whole[name] = share * _sum(own * value, self.axis_name)
        return whole

    def base_share(self, result: rj.Result, in_whole: _Weights) -> jax.Array:
        """What the base's mean over the part counts in that over all parts."""
        if result.weight is None or self.whole.base is None:
            return in_whole.labeled
        return _sum(jnp.sum(result.weight), self.axis_name) / _positive(self.whole.base)

    def counts_alike(self, result: rj.Result) -> bool:
        """Whether one share is that of all means, so that it needs no derivative."""
        return result.weight is None and not self.has_unlabeled

    @property
    def has_unlabeled(self) -> bool:
        """Whether there are terms of the second stream."""
        return any(stage.definition.over == "unlabeled" for stage in self.loss.stages)

    @property
    def base_name(self) -> str:
        """The base's, which is that of its scalar."""
        return next(iter(self.loss.named()))[0]


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


def salted(
    forward: rj.Forward, salt: Callable[[], jax.Array], place: Callable[[jax.Array], Place]
) -> rj.Forward:
    """The network with other dropout masks for every salt, for use inside the current trace.

    Args:
      forward: the network.
      salt: what returns the number of the device or part, when the network runs.
      place: where in the whole batch the rows of the device or part of that number lie.

    Returns:
      A `Forward`.
    """

    def apply(params: Any, state: Any, x: jax.Array, key: Any, *rest: Any) -> rj.Outputs:
        if key is None:
            return forward.apply(params, state, x, key, *rest)
        number = salt()
        with spread(key, place(number)):
            return forward.apply(params, state, x, jax.random.fold_in(key, number), *rest)

    return forward.replace(apply=apply)


def _split(parts: int, x: jax.Array) -> jax.Array:
    """Rows in parts, each of which takes its examples from all devices."""
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)


def _weights(batch: rj.Batch, axis_name: str | None) -> _Weights:
    """The sum of the weights of the examples, and of the unlabelled ones."""

    def whole(batch: rj.Batch | None) -> jax.Array:
        if batch is None:
            return jnp.zeros(())
        size = jnp.float32(len(batch.image))
        return _sum(size if batch.weight is None else jnp.sum(batch.weight), axis_name)

    return _Weights(whole(batch), whole(batch.unlabeled))


def _shares(some: _Weights, whole: _Weights) -> _Weights:
    """What some count in the whole; 0 of nothing."""
    return _Weights(*(a / _positive(b) for a, b in zip(some[:2], whole[:2], strict=True)))


def _sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def _positive(weight: jax.Array) -> jax.Array:
    return jnp.where(weight == 0, 1, weight)
