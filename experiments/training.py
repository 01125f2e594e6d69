"""The one train loop: a step, many steps in one compiled loop over data in device memory.

`sweep.py` runs these functions for many (loss, seed) at once; a single run is a sweep of one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import regjax as rj

OPTIMIZERS = {
    "adam": optax.adam,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}


class Data(NamedTuple):
    """Images in device memory: `image` uint8 `[N, H, W, K]`, `label` int32 `[N]`."""

    image: jax.Array
    label: jax.Array


class TrainState(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
      step: int32 `[]`.
      params: the model's parameters.
      model_state: BatchNorm's averages.
      opt_state: the optimizer's state.
      loss_state: the loss's state; None until `init_loss`.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: optax.OptState
    loss_state: rj.LossState | None


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained: everything that all runs of a comparison share but the data.

    Attributes:
      build: `key -> Forward`, a freshly initialised network.
      optimizer: optax's.
      prepare: `uint8 [B, H, W, K] -> float32 [B, H, W, K]`, the normalisation.
      classes: C.
    """

    build: Callable[[jax.Array], rj.Forward]
    optimizer: optax.GradientTransformation
    prepare: Callable[[jax.Array], jax.Array]
    classes: int

    @functools.cached_property
    def network(self) -> rj.Forward:
        """The network without its parameters, which each run brings."""
        return jax.eval_shape(self.build, jax.random.key(0))


def optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    """The optimizer of that name; ValueError where there is none."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; known are: {', '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[name](learning_rate)


def gather(task: Task, data: Data, index: jax.Array, weight: jax.Array) -> rj.Batch:
    """The batch of the examples `index [B]`, normalised, labels one-hot."""
    label = jax.nn.one_hot(data.label[index], task.classes)
    return rj.Batch(task.prepare(data.image[index]), label, index, weight)


def init(task: Task, seed: jax.Array) -> TrainState:
    """The state before the first step but for the loss's; equal seeds give equal networks."""
    forward = task.build(_keys(seed)[0])
    opt_state = task.optimizer.init(forward.params)
    return TrainState(jnp.zeros((), jnp.int32), forward.params, forward.state, opt_state, None)


def init_loss(task: Task, data: Data, state: TrainState, loss: rj.Loss) -> TrainState:
    """The state with the loss's, which alone depends on the loss."""
    forward = task.network.replace(params=state.params, state=state.model_state)
    batch = gather(task, data, jnp.zeros(1, jnp.int32), jnp.ones(1))
    return state._replace(loss_state=loss.init(forward, batch))


def _keys(seed: jax.Array) -> jax.Array:
    """The keys of a run: for its initial network, for its steps."""
    return jax.random.split(jax.random.key(seed))


def train_step(
    task: Task, state: TrainState, loss: rj.Loss, batch: rj.Batch, key: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of the optimizer; `key` is the run's, the step's own is derived from it.

    Returns:
      The next state, and scalars: `total`, which was minimised, and the loss's metrics.
    """
    key = jax.random.fold_in(key, state.step)

    def objective(params: Any) -> tuple[jax.Array, tuple[rj.Result, rj.LossState]]:
        assert state.loss_state is not None
        forward = task.network.replace(params=params, state=state.model_state)
        result, loss_state = loss.apply(state.loss_state, forward, batch, key)
        return rj.total(result, batch), (result, loss_state)

    gradient = jax.value_and_grad(objective, has_aux=True)
    (value, (result, loss_state)), direction = gradient(state.params)
    updates, opt_state = task.optimizer.update(direction, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    next_state = TrainState(state.step + 1, params, result.outputs.state, opt_state, loss_state)
    return next_state, {"total": value, **result.metrics}


def train_steps(
    task: Task,
    data: Data,
    count: jax.Array,
    state: TrainState,
    loss: rj.Loss,
    seed: jax.Array,
    index: jax.Array,
    weight: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The first `count` of the steps whose examples are `index [K, B]`, in one compiled loop.

    `count` is traced, so that runs of any length share one program.

    Returns:
      The state after them, and the mean of each of `train_step`'s scalars over them.
    """
    key = _keys(seed)[1]

    def body(i: jax.Array, carry: Any) -> Any:
        state, sums = carry
        batch = gather(task, data, index[i], weight[i])
        state, metrics = train_step(task, state, loss, batch, key)
        return state, jax.tree.map(jnp.add, sums, metrics)

    first = gather(task, data, index[0], weight[0])
    metrics = jax.eval_shape(lambda: train_step(task, state, loss, first, key)[1])
    zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), metrics)
    state, sums = jax.lax.fori_loop(0, count, body, (state, zeros))
    return state, jax.tree.map(lambda s: s / count, sums)


def predict(task: Task, data: Data, state: TrainState, index: jax.Array) -> jax.Array:
    """Logits `[K * B, C]` of the examples `index [K, B]`, with BatchNorm's running averages."""
    forward = task.network.replace(params=state.params, state=state.model_state).frozen()
    logits = jax.lax.map(lambda i: forward(task.prepare(data.image[i])).logits, index)
    return logits.reshape(-1, task.classes)
