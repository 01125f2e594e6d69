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
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import regjax as rj
from experiments.evaluation import perturbed as robustness
from experiments.evaluation.perturbed import Perturbation
from experiments.training import step as training
from experiments.training.step import Data, Metrics, Task, TrainState

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
    return jax.tree.map(lambda *numbers: np.asarray(numbers, np.float32), *losses)


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
    inner = over_runs(function, _single_device_strategy())
    return jax.shard_map(
        inner, mesh=_mesh(), in_specs=(P(), P("runs")), out_specs=P("runs"), check_vma=False
    )


def _mesh() -> Mesh:
    return jax.make_mesh((jax.device_count(),), ("runs",), axis_types=(AxisType.Auto,))


class Sweep:
    """The compiled programs of one task, each run's arguments along the first axis, `[R, ...]`.

    A program is compiled once for each structure of loss, number of runs and shape of indices.
    """

    def __init__(self, task: Task, data: Data, strategy: str | None = None) -> None:
        """Readies the programs; nothing is compiled before its first call."""
        self.strategy = strategy or default_strategy()

        def program(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
            mapped = over_runs(functools.partial(function, task), self.strategy)
            return jax.jit(lambda shared, *each: mapped(shared, each), **options)

        # What the host looks at is whole on every device, and so in every process.
        runs = whole = None
        if self.strategy == "sharded":
            runs, whole = (NamedSharding(_mesh(), spec) for spec in (P("runs"), P()))
        self.data = jax.device_put(data, whole)
        self._init = program(training.init)
        self._init_loss = program(
            lambda task, *run: training.init_loss(task, data.image.shape[1:], *run)
        )
        self._advance = program(
            training.train_steps, donate_argnums=1, out_shardings=(runs, whole, whole)
        )
        self._predict_all = program(training.predict_all, out_shardings=whole)
        self._perturbed_all = functools.cache(
            lambda perturbation: program(
                lambda task, *run: robustness.perturbed_all(task, perturbation, *run),
                out_shardings=whole,
            )
        )

    batch_multiple = 1

    @property
    def runs_multiple(self) -> int:
        """What the number of runs must be a multiple of."""
        return jax.device_count() if self.strategy == "sharded" else 1

    def init(self, losses: rj.Loss, seeds: np.ndarray) -> TrainState:
        """The states before the first step, for stacked losses and `seeds [R]`."""
        states = self._init((), seeds)
        return self._init_loss((), states, losses)

    def advance(
        self,
        states: TrainState,
        losses: rj.Loss,
        seeds: np.ndarray,
        index: np.ndarray,
        weight: np.ndarray,
        count: int,
    ) -> tuple[TrainState, Metrics, Metrics]:
        """Takes `count` steps on the examples `index [R, K, B]`; `states` is given away.

        Returns:
          The next states, and `train_steps`'s means and first broken steps, each `[R]`.
        """
        shared = (self.data, np.int32(count))
        return self._advance(shared, states, losses, seeds, index, weight)

    def predict_all(self, states: TrainState, index: np.ndarray) -> jax.Array:
        """Logits `[R, K * B, C]` of the examples `index [R, K, B]`."""
        return self._predict_all((self.data,), states, index)

    def perturbed_all(
        self, states: TrainState, perturbation: Perturbation, index: np.ndarray, data: Data | None
    ) -> jax.Array:
        """Logits `[R, L, K * B, C]` of `index [R, K, B]`, at all levels of a perturbation.

        The examples are `data`'s, or where it is None those that are trained on and tested.
        """
        return self._perturbed_all(perturbation)((data or self.data,), states, index)
