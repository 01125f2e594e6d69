"""The one training step, and many of them in one compiled loop over data in device memory.

`sweep.py` runs these functions for many (loss, seed) at once, `parallel.py` for one run on many
devices; `loop.py` calls either, keeps the record and the checkpoints.
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
from regjax.core.axes import varying_as

Metrics = dict[str, jax.Array]
NEVER = jnp.iinfo(jnp.int32).max


class Data(NamedTuple):
    """Images in device memory: `image` uint8 `[N, H, W, K]`, `label` int32 `[N]`."""

    image: jax.Array
    label: jax.Array


class TrainState(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
      step: int32 `[]`.
      params: the model's parameters, float32.
      average: their exponential moving average, which is what is evaluated; None without one.
      model_state: BatchNorm's averages, float32.
      opt_state: the optimizer's state.
      loss_state: the loss's state; None until `init_loss`.
    """

    step: jax.Array
    params: Any
    average: Any
    model_state: Any
    opt_state: optax.OptState
    loss_state: rj.LossState | None


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained: everything that all runs of a comparison share but the data.

    Attributes:
      build: `key -> Forward`, a freshly initialised network; for `parallel.py` also given
        `axis_name`, the mapped axis over which BatchNorm takes its statistics.
      optimizer: optax's.
      prepare: `uint8 [B, H, W, K] -> float32 [B, H, W, K]`, the normalisation.
      classes: C.
      dtype: what the network computes in; parameters and statistics are float32 all the same.
      accumulate: parts of a batch, of one size, whose gradients are taken one after the other.
      decay: of the parameters' moving average; 0 for none.
      growing: numbers of the loss, as "stage.argument", that grow with the steps from 0 to theirs.
      steps: of a whole run, by which the growing numbers have grown.
    """

    build: Callable[..., rj.Forward]
    optimizer: optax.GradientTransformation
    prepare: Callable[[jax.Array], jax.Array]
    classes: int
    dtype: Any = jnp.float32
    accumulate: int = 1
    decay: float = 0.0
    growing: tuple[str, ...] = ()
    steps: int = 0

    @functools.cached_property
    def network(self) -> rj.Forward:
        """The network without its parameters, which each run brings."""
        return jax.eval_shape(self.build, jax.random.key(0))

    def forward(self, params: Any, model_state: Any) -> rj.Forward:
        """The network with these parameters, in the precision that it computes in."""
        return self.network.replace(params=_cast(params, self.dtype), state=model_state)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def make_batch(
    task: Task, image: jax.Array, label: jax.Array, index: jax.Array, weight: jax.Array
) -> rj.Batch:
    """The batch of stored images `[B, H, W, K]` and classes `[B]`: normalised, labels one-hot."""
    image = task.prepare(image).astype(task.dtype)
    return rj.Batch(image, jax.nn.one_hot(label, task.classes), index, weight)


def gather(task: Task, data: Data, index: jax.Array, weight: jax.Array) -> rj.Batch:
    """The batch of the examples `index [B]`."""
    return make_batch(task, data.image[index], data.label[index], index, weight)


def init(task: Task, seed: jax.Array) -> TrainState:
    """The state before the first step but for the loss's; equal seeds give equal networks."""
    forward = task.build(_keys(seed)[0])
    opt_state = task.optimizer.init(forward.params)
    average = jax.tree.map(jnp.copy, forward.params) if task.decay else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, forward.params, average, forward.state, opt_state, None)


def init_loss(task: Task, shape: tuple[int, ...], state: TrainState, loss: rj.Loss) -> TrainState:
    """The state with the loss's, for images of that shape; only it depends on the loss."""
    image = jnp.zeros((1, *shape), jnp.uint8)
    zero = jnp.zeros(1, jnp.int32)
    batch = make_batch(task, image, zero, zero, jnp.ones(1))
    return state._replace(
        loss_state=loss.init(task.forward(state.params, state.model_state), batch)
    )


def _keys(seed: jax.Array) -> jax.Array:
    """The keys of a run: for its initial network, for its steps."""
    return jax.random.split(jax.random.key(seed))


def train_step(
    task: Task,
    state: TrainState,
    loss: rj.Loss,
    batch: rj.Batch,
    seed: jax.Array,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of the optimizer.

    Args:
      task: what is trained.
      state: of the run.
      loss: with `axis_name` in its stages, where there is one.
      batch: under `pmap` or `shard_map` this device's examples.
      seed: the run's, from which the keys of its steps are derived.
      axis_name: the mapped axis over which the batch is spread.

    Returns:
      The next state, and float32 scalars: `total`, which was minimised, the loss's metrics, and
      `gradient_norm`; the same on every device.
    """
    key = jax.random.fold_in(_keys(seed)[1], state.step)
    loss = grown(loss, task.growing, state.step / max(task.steps, 1))
    direction, metrics, model_state, loss_state = _gradient(
        task, state, loss, batch, key, axis_name
    )
    updates, opt_state = task.optimizer.update(direction, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if task.decay:
        average = optax.incremental_update(params, average, 1 - task.decay)
    following = TrainState(state.step + 1, params, average, model_state, opt_state, loss_state)
    metrics |= {"gradient_norm": optax.tree.norm(direction)}
    return following, {name: value.astype(jnp.float32) for name, value in metrics.items()}


def grown(loss: rj.Loss, names: tuple[str, ...], share: jax.Array) -> rj.Loss:
    """The loss with the numbers that are called `stage.argument` times a share."""
    if not names:
        return loss

    def stage(name: str, stage: Any) -> Any:
        scaled = {
            argument: value * share if f"{name}.{argument}" in names else value
            for argument, value in stage.arguments.items()
        }
        return dataclasses.replace(stage, arguments=scaled)

    return rj.Loss(tuple(stage(name, each) for name, each in loss.named()))


def _gradient(
    task: Task,
    state: TrainState,
    loss: rj.Loss,
    batch: rj.Batch,
    key: jax.Array,
    axis_name: str | None,
) -> tuple[Any, Metrics, Any, rj.LossState]:
    """The gradient and the metrics of a batch, part by part, and the model's and loss's states."""
    assert batch.weight is not None
    assert state.loss_state is not None
    whole, start = _sum(jnp.sum(batch.weight), axis_name), state.loss_state.step

    def part(carry: Any, numbered: tuple[jax.Array, rj.Batch]) -> tuple[Any, Any]:
        number, batch = numbered
        assert batch.weight is not None
        model_state, loss_state = carry
        # All parts are one step, for schedules; draws go by the examples' index.
        loss_state = loss_state._replace(step=start)

        def objective(params: Any) -> tuple[jax.Array, tuple[rj.Result, rj.LossState]]:
            forward = salted(task.forward(params, model_state), lambda: number)
            result, following = loss.apply(loss_state, forward, batch, key)
            return rj.total(result, batch, axis_name=axis_name), (result, following)

        # Of the device's own copy, so that the gradient is its own until the mean is taken.
        params = jax.tree.map(lambda p: varying_as(p, batch.image), state.params)
        gradient = jax.value_and_grad(objective, has_aux=True)
        (total, (result, loss_state)), direction = gradient(params)
        mine = jnp.sum(batch.weight)
        weight = _sum(mine, axis_name)
        # What devices' means count in the mean over all, and that in the mean over all parts.
        each, share = mine / _positive(weight), weight / _positive(whole)
        metrics = {name: share * _sum(each * m, axis_name) for name, m in result.metrics.items()}
        direction, total = jax.tree.map(lambda x: share * _mean(x, axis_name), (direction, total))
        return (result.outputs.state, loss_state), (direction, {"total": total, **metrics})

    carry = (state.model_state, state.loss_state)
    if task.accumulate == 1:
        (model_state, loss_state), (direction, metrics) = part(carry, (jnp.int32(0), batch))
        return direction, metrics, model_state, loss_state

    def split(x: jax.Array) -> jax.Array:
        # Every part takes its examples from all devices.
        return x.reshape(-1, task.accumulate, *x.shape[1:]).swapaxes(0, 1)

    numbered = (jnp.arange(task.accumulate), jax.tree.map(split, batch))
    (model_state, loss_state), parts = jax.lax.scan(part, carry, numbered)
    direction, metrics = jax.tree.map(lambda x: x.sum(0), parts)
    return direction, metrics, model_state, loss_state


def salted(forward: rj.Forward, salt: Callable[[], jax.Array]) -> rj.Forward:
    """The network with other dropout masks for every salt, for use inside the current trace."""

    def apply(params: Any, state: Any, x: jax.Array, key: Any, *rest: Any) -> rj.Outputs:
        key = None if key is None else jax.random.fold_in(key, salt())
        return forward.apply(params, state, x, key, *rest)

    return forward.replace(apply=apply)


def _sum(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def _mean(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.pmean(x, axis_name)


def _positive(weight: jax.Array) -> jax.Array:
    return jnp.where(weight == 0, 1, weight)


def train_steps(
    task: Task,
    data: Data,
    count: jax.Array,
    state: TrainState,
    loss: rj.Loss,
    seed: jax.Array,
    index: jax.Array,
    weight: jax.Array,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics, Metrics]:
    """The first `count` of the steps whose examples are `index [K, B]`, in one compiled loop.

    `count` is traced, so that runs of any length share one program.

    Returns:
      The state after them; the mean of each of `train_step`'s scalars over them; and for each the
      first step at which it was not finite, `NEVER` if it always was.
    """

    def one(state: TrainState, index: jax.Array, weight: jax.Array) -> tuple[TrainState, Metrics]:
        return train_step(task, state, loss, gather(task, data, index, weight), seed, axis_name)

    def body(i: jax.Array, carry: Any) -> Any:
        state, sums, broken = carry
        following, metrics = one(state, index[i], weight[i])
        broken = jax.tree.map(
            lambda first, m: jnp.where(jnp.isfinite(m), first, jnp.minimum(first, state.step)),
            broken,
            metrics,
        )
        return following, jax.tree.map(jnp.add, sums, metrics), broken

    # By name, since to trace a step for them would take as long as to trace the loop.
    terms = [name for name, stage in loss.named() if stage.definition.kind != "wrapper"]
    names = ("total", *terms, "gradient_norm")
    zeros = dict.fromkeys(names, jnp.zeros((), jnp.float32))
    never = dict.fromkeys(names, jnp.full((), NEVER))
    state, sums, broken = jax.lax.fori_loop(0, count, body, (state, zeros, never))
    return state, jax.tree.map(lambda s: s / count, sums), broken


def trained(task: Task, state: TrainState) -> rj.Forward:
    """The network as it is evaluated: averaged parameters, if any, and BatchNorm's averages."""
    params = state.average if task.decay else state.params
    return task.forward(params, state.model_state).frozen()


def predict(task: Task, state: TrainState, image: jax.Array) -> jax.Array:
    """Logits `[B, C]`, float32, of stored images `[B, H, W, K]`, with BatchNorm's averages."""
    forward = trained(task, state)
    return forward(task.prepare(image).astype(task.dtype)).logits.astype(jnp.float32)


def predict_all(task: Task, data: Data, state: TrainState, index: jax.Array) -> jax.Array:
    """Logits `[K * B, C]` of the examples `index [K, B]`."""
    logits = jax.lax.map(lambda i: predict(task, state, data.image[i]), index)
    return logits.reshape(-1, task.classes)


def check(task: Task, shape: tuple[int, ...], loss: rj.Loss, size: int) -> None:
    """Traces a step of `size` images of a shape: raises what the loss and the network say to it."""

    def step(image: jax.Array, weight: jax.Array) -> TrainState:
        seed, label = jnp.zeros((), jnp.uint32), jnp.zeros(size, jnp.int32)
        state = init_loss(task, shape, init(task, seed), loss)
        batch = make_batch(task, image, label, label, weight)
        return train_step(task, state, loss, batch, seed)[0]

    image = jax.ShapeDtypeStruct((size, *shape), jnp.uint8)
    jax.eval_shape(step, image, jax.ShapeDtypeStruct((size,), jnp.float32))
