"""Many runs, each a loss's numbers and a seed, in one compiled program.

Losses of one structure are stacked leaf by leaf (`stack`), and the functions of `training.py` are
mapped over them. How is a matter of speed alone, measured by `python -m experiments.benchmark`:

- "vmap": all runs at once, matrix products batched over the runs.
- "map": one run after the other, in a loop on the device.
- "sharded": the runs spread over all devices, "map" or "vmap" (as the platform has it) on each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import regjax as rj
from experiments import training
from experiments.training import Data, Task, TrainState

STRATEGIES = ("vmap", "map", "sharded")


def default_strategy() -> str:
    """The fastest strategy of the platform, by the benchmark."""
    if jax.device_count() > 1:
        return "sharded"
    return _single_device_strategy()


def _single_device_strategy() -> str:
    return "map" if jax.default_backend() == "cpu" else "vmap"


def stack(losses: Sequence[rj.Loss]) -> rj.Loss:
    """One loss whose numbers are arrays over the runs; ValueError if their structures differ."""
    structures = {jax.tree.structure(loss) for loss in losses}
    if len(structures) != 1:
        raise ValueError(
            f"one program needs losses that differ only in numbers, but these do not: {losses}."
        )
    return jax.tree.map(lambda *numbers: jnp.asarray(numbers, jnp.float32), *losses)


def over_runs(function: Callable[..., Any], strategy: str) -> Callable[..., Any]:
    """`(shared, each) -> results`: `function(*shared, *each)` for every run along the first axis.

    Raises:
      ValueError: an unknown strategy; or, sharded, runs that the devices do not divide.
    """
    if strategy == "vmap":
        return lambda shared, each: jax.vmap(functools.partial(function, *shared))(*each)
    if strategy == "map":
        return lambda shared, each: jax.lax.map(lambda run: function(*shared, *run), each)
    if strategy != "sharded":
        raise ValueError(f"unknown strategy {strategy!r}; known are: {', '.join(STRATEGIES)}.")
    mesh = jax.make_mesh((jax.device_count(),), ("runs",), axis_types=(jax.sharding.AxisType.Auto,))
    inner = over_runs(function, _single_device_strategy())
    return jax.shard_map(
        inner, mesh=mesh, in_specs=(P(), P("runs")), out_specs=P("runs"), check_vma=False
    )


class Sweep:
    """The compiled programs of one task, each run's arguments along the first axis, `[R, ...]`.

    A program is compiled once for each structure of loss, number of runs and shape of indices.
    """

    def __init__(self, task: Task, data: Data, strategy: str | None = None) -> None:
        """Readies the programs; nothing is compiled before its first call."""
        self.strategy = strategy or default_strategy()
        self._task, self._data = task, data

        def program(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
            mapped = over_runs(functools.partial(function, task), self.strategy)
            return jax.jit(lambda shared, *each: mapped(shared, each), **options)

        self._init = program(training.init)
        self._init_loss = program(training.init_loss)
        self._advance = program(training.train_steps, donate_argnums=1)
        self._predict = program(training.predict)

    @property
    def multiple(self) -> int:
        """What the number of runs must be a multiple of."""
        return jax.device_count() if self.strategy == "sharded" else 1

    def check(self, loss: rj.Loss, batch_size: int) -> None:
        """Traces a step, which raises what the loss has to say about the network and the batch."""
        task, data, seed = self._task, self._data, jnp.zeros((), jnp.uint32)

        def step(weight: jax.Array) -> TrainState:
            state = training.init_loss(task, data, training.init(task, seed), loss)
            batch = training.gather(task, data, jnp.zeros(batch_size, jnp.int32), weight)
            return training.train_step(task, state, loss, batch, jax.random.key(0))[0]

        jax.eval_shape(step, jax.ShapeDtypeStruct((batch_size,), jnp.float32))

    def init(self, losses: rj.Loss, seeds: jax.Array) -> TrainState:
        """The states before the first step, for stacked losses and `seeds [R]`."""
        return self._init_loss((self._data,), self._init((), seeds), losses)

    def advance(
        self,
        states: TrainState,
        losses: rj.Loss,
        seeds: jax.Array,
        index: np.ndarray,
        weight: np.ndarray,
        count: int,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Takes `count` steps on the examples `index [R, K, B]`; `states` is given away.

        Returns:
          The next states and the mean of `train_step`'s scalars, each `[R]`.
        """
        shared = (self._data, jnp.asarray(count, jnp.int32))
        return self._advance(shared, states, losses, seeds, index, weight)

    def predict(self, states: TrainState, index: np.ndarray) -> jax.Array:
        """Logits `[R, K * B, C]` of the examples `index [R, K, B]`."""
        return self._predict((self._data,), states, index)
