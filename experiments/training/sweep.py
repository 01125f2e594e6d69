"""Many runs, each an objective's numbers and a seed, in one compiled program.

Objectives of one structure are stacked leaf by leaf (`stack`), and a task's functions are mapped
over them. How is a matter of speed alone, measured by `python -m experiments.benchmark`:

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

from experiments import platform
from experiments.training import compiler, steps
from experiments.training.task import Evaluation, Metrics, Rows, Task, TrainState

STRATEGIES = ("vmap", "map", "sharded")


def default_strategy() -> str:
    """The fastest strategy of the platform, by the benchmark."""
    if jax.device_count() > 1:
        return "sharded"
    return _single_device_strategy()


def _single_device_strategy() -> str:
    return "map" if platform() == "cpu" else "vmap"


def stack(objectives: Sequence[Any]) -> Any:
    """One objective whose numbers are arrays over the runs.

    Raises:
      ValueError: their structures differ.
    """
    structures = {jax.tree.structure(each) for each in objectives}
    if len(structures) != 1:
        raise ValueError(
            f"one program needs losses that differ only in numbers, but these do not: {objectives}."
        )
    return jax.tree.map(lambda *numbers: np.asarray(numbers, np.float32), *objectives)


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

    A program is compiled once for each structure of objective, number of runs and shape of rows.

    Attributes:
      strategy: the way in which the runs are mapped over.
      stored: the data, on the device.
    """

    batch_multiple = 1  # what the size of a batch must be a multiple of

    def __init__(self, task: Task, stored: Any, strategy: str | None = None) -> None:
        """Readies the programs; nothing is compiled before its first call."""
        self.strategy = strategy or default_strategy()

        def program(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
            mapped = over_runs(function, self.strategy)
            asked = compiler.options(platform())
            return jax.jit(
                lambda shared, *each: mapped(shared, each), compiler_options=asked, **options
            )

        # What the host looks at is whole on every device, and so in every process.
        runs = whole = None
        if self.strategy == "sharded":
            runs, whole = (NamedSharding(_mesh(), spec) for spec in (P("runs"), P()))
        self._whole = whole
        self.stored = jax.device_put(stored, whole)
        self._init = program(task.init)
        self._advance = program(
            functools.partial(steps.advance, task),
            donate_argnums=1,
            out_shardings=(runs, whole, whole),
        )
        self._measure = functools.cache(
            lambda evaluation: program(
                functools.partial(steps.measure, task, evaluation), out_shardings=whole
            )
        )

    @property
    def runs_multiple(self) -> int:
        """What the number of runs must be a multiple of."""
        return jax.device_count() if self.strategy == "sharded" else 1

    def init(self, objectives: Any, seeds: np.ndarray) -> TrainState:
        """The states before the first step, for stacked objectives and `seeds [R]`."""
        return self._init((), seeds, objectives)

    def advance(
        self, states: TrainState, objectives: Any, seeds: np.ndarray, rows: Rows, count: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """Takes `count` steps on the rows `[R, K, B]`; `states` is given away.

        Returns:
          The next states, and the means and first broken steps of `steps.advance`, each `[R]`.
        """
        shared = (self.stored, np.int32(count))
        return self._advance(shared, states, objectives, seeds, rows)

    def measure(
        self, states: TrainState, evaluation: Evaluation, rows: Rows, stored: Any = None
    ) -> dict[str, jax.Array]:
        """An evaluation's measurements of the rows `[R, K, B]`, each `[R, K * B, ...]`.

        The rows are of `stored`, or where it is None of the data that are trained on.
        """
        other = None if stored is None else jax.device_put(stored, self._whole)
        shared = (self.stored if stored is None else other,)
        return self._measure(evaluation)(shared, states, rows)
