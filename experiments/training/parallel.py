"""One run on many devices, of one process or of many: the batch is spread over them.

A task's functions are compiled in one of three ways (`mapping.py`), to the same result. The
interface is that of `sweep.Sweep` with one run.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments import compiled_for
from experiments.training import compiler, steps
from experiments.training import devices as machine
from experiments.training.mapping import AXES, Function, pmapped, shard_mapped
from experiments.training.task import Evaluation, Examples, Metrics, Rows, Task, TrainState

KINDS = ("jit", "shard_map", "pmap")


def _advance(
    task: Task, shared: Any, state: Any, *rest: Any, axis_name: str | None = None
) -> tuple[TrainState, Any]:
    stored, count = shared
    state, *metrics = steps.advance(task, stored, count, state, *rest, axis_name=axis_name)
    return state, metrics


def _step(
    task: Task,
    _: Any,
    state: Any,
    objective: Any,
    seed: Any,
    examples: Examples,
    axis_name: str | None = None,
) -> tuple[TrainState, Any]:
    return task.step(state, objective, task.batch(examples), seed, axis_name)


class Parallel:
    """The compiled programs of one run at a time, its batches spread over all devices.

    Attributes:
      mesh: the mesh of all devices.
      stored: the data on every device, or None.
    """

    runs_multiple = 1  # what the number of runs must be a multiple of

    def __init__(
        self,
        task: Task,
        stored: Any,
        kind: str,
        fsdp: int = 1,
        devices: Sequence[Any] | None = None,
    ) -> None:
        """Places the data on every device; nothing is compiled before its first call.

        Args:
          task: what is trained.
          stored: data in memory, for `advance` and `measure`; None for streams.
          kind: "jit", "shard_map" or "pmap".
          fsdp: devices over which the parameters are split.
          devices: those that are compiled for, such as a topology's; None for all that there are.

        Raises:
          ValueError: an unknown kind, or one that cannot do this.
        """
        if kind not in KINDS:
            raise ValueError(f"config.parallelism is {kind!r}; it can be {', '.join(KINDS)}.")
        if fsdp != 1 and kind != "jit":
            raise ValueError(f"config.fsdp={fsdp} needs config.parallelism='jit', not {kind!r}.")
        if kind == "pmap" and jax.process_count() > 1:
            raise ValueError("config.parallelism='pmap' runs in one process only: use 'shard_map'.")
        self.mesh, self._task, self._kind = machine.mesh(fsdp, devices), task, kind
        self._planned = devices is not None
        self._platform = self.mesh.devices.flat[0].platform
        self.stored = None if stored is None else jax.device_put(stored, self._sharding())
        self._places: Any = None
        self._jitted = functools.cache(self._compile)
        self._measure = functools.cache(self._compile_measure)
        self._measure_examples = functools.cache(
            lambda evaluation: jax.jit(
                lambda state, each: (evaluation.measure(task, state, each), each.weight),
                out_shardings=self._sharding(),
                compiler_options=compiler.options(self._platform),
            )
        )

    @property
    def batch_multiple(self) -> int:
        """What the size of a batch must be a multiple of."""
        return self.mesh.size * self._task.accumulate

    def init(self, objectives: Any, seeds: np.ndarray) -> TrainState:
        """The state before the first step, for an objective whose numbers and seeds are `[1]`."""
        arguments = (_first(seeds), _first(objectives))
        with self._mesh_set():
            places = self._starting_places(arguments)
            state = jax.jit(self._task.init, out_shardings=places)(*arguments)
        places = jax.tree.map(lambda x: x.sharding, state)
        # With their types: tuples of two kinds of statistics are equal to Python.
        if jax.tree.flatten(places) != jax.tree.flatten(self._places):
            self._jitted.cache_clear()  # of programs for a state that lies elsewhere
        self._places = places
        return state

    def _starting_places(self, arguments: tuple[Any, Any]) -> TrainState:
        shapes = jax.eval_shape(self._task.init, *arguments)
        places = jax.tree.map(self._place, shapes)
        whole = jax.tree.map(lambda _: self._sharding(), places.model_state)
        # An objective may say itself where its state is, such as split by class.
        places = places._replace(model_state=whole, loss_state=None)
        if self.mesh.shape["fsdp"] == 1:
            return places
        chosen = jax.jit(self._task.init, out_shardings=places).lower(*arguments).compile()
        chosen = chosen.output_shardings.loss_state
        return places._replace(
            loss_state=jax.tree.map(
                lambda x, said: self._place(x) if said.is_fully_replicated else said,
                shapes.loss_state,
                chosen,
            )
        )

    def advance(
        self, state: TrainState, objectives: Any, seeds: np.ndarray, rows: Rows, count: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """Takes `count` steps on the rows `[1, K, B]`; `state` is given away.

        Returns:
          The next state, and the means and first broken steps of `steps.advance`, each `[1]`.
        """
        program = self._jitted(_advance, 1)
        shared = (self.stored, np.int32(count))
        arguments = (shared, state, _first(objectives), _first(seeds), self._split(rows))
        with self._mesh_set():
            state, metrics = program(*arguments)
        means, broken = jax.tree.map(lambda x: x[None], metrics)
        return state, means, broken

    def step(
        self, state: TrainState, objectives: Any, seeds: np.ndarray, examples: Examples
    ) -> tuple[TrainState, Metrics]:
        """Takes one step on examples that `place` put on the devices; `state` is given away.

        Returns:
          The next state and the step's scalars.
        """
        program = self._jitted(_step, 0)
        with self._mesh_set():
            return program((), state, _first(objectives), _first(seeds), examples)

    def plan(self, objectives: Any, seeds: np.ndarray) -> TrainState:
        """The state before the first step as shapes and places: nothing is computed."""
        arguments = (_first(seeds), _first(objectives))
        with self._mesh_set():
            places = self._starting_places(arguments)
            if places.loss_state is None:
                places = places._replace(loss_state=self._chosen(arguments))
            shapes = jax.eval_shape(self._task.init, *arguments)
        self._places = places

        def placed(x: jax.ShapeDtypeStruct, place: NamedSharding) -> jax.ShapeDtypeStruct:
            return x.update(sharding=place)

        return jax.tree.map(placed, shapes, places)

    def _chosen(self, arguments: tuple[Any, Any]) -> Any:
        """Where an objective's state lies, by itself."""
        init = jax.jit(
            lambda *each: self._task.init(*each).loss_state,
            in_shardings=self._sharding(),
            keep_unused=True,  # they say for which devices it is
        )
        return init.lower(*arguments).compile().output_shardings

    def lower(
        self, state: TrainState, objectives: Any, seeds: np.ndarray, examples: Examples
    ) -> jax.stages.Lowered:
        """The program of `step`, to be compiled and looked at; not of kind "pmap"."""
        return self._lower(_step, 0, (), state, objectives, seeds, examples)

    def lower_advance(
        self, stored: Any, state: TrainState, objectives: Any, seeds: np.ndarray, rows: Rows
    ) -> jax.stages.Lowered:
        """The program of `advance` on such data, of rows `[K, B]`; not of kind "pmap"."""
        stored = jax.tree.map(lambda x: x.update(sharding=self._sharding()), stored)
        return self._lower(_advance, 1, (stored, np.int32(1)), state, objectives, seeds, rows)

    def _lower(
        self, function: Function, axis: int, shared: Any, state: Any, *rest: Any
    ) -> jax.stages.Lowered:
        program: Any = self._jitted(function, axis)
        objectives, seeds, examples = rest
        with self._mesh_set():
            return program.lower(shared, state, _first(objectives), _first(seeds), examples)

    def place(self, examples: Examples) -> Examples:
        """This process's share of some examples, as arrays over the devices of all processes."""
        put = functools.partial(jax.make_array_from_process_local_data, self._sharding(AXES))
        return jax.tree.map(put, examples)

    def measure(
        self, state: TrainState, evaluation: Evaluation, rows: Rows, stored: Any = None
    ) -> dict[str, jax.Array]:
        """An evaluation's measurements of the rows `[1, K, B]`, each `[1, K * B, ...]`.

        The rows are of `stored`, or where it is None of the data that are trained on.
        """
        placed = self.stored if stored is None else jax.device_put(stored, self._sharding())
        found = self._measure(evaluation)(placed, state, self._split(rows))
        return jax.tree.map(lambda x: x[None], found)

    def measure_examples(
        self, state: TrainState, evaluation: Evaluation, examples: Examples
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """An evaluation's measurements of placed examples, `[B, ...]`, and their weights.

        Those of all processes' examples, whole on each device.
        """
        return self._measure_examples(evaluation)(state, examples)

    def _compile_measure(self, evaluation: Evaluation) -> Callable[..., dict[str, jax.Array]]:
        return jax.jit(
            functools.partial(steps.measure, self._task, evaluation),
            in_shardings=(None, None, self._sharding(None, AXES)),
            out_shardings=self._sharding(),
            compiler_options=compiler.options(self._platform),
        )

    def _split(self, rows: Rows) -> Rows:
        """Of rows `[1, K, B]`, which all processes have, `[K, B]` split along the examples."""
        sharding = self._sharding(None, AXES)

        def split(x: np.ndarray) -> jax.Array:
            return jax.make_array_from_callback(x.shape[1:], sharding, lambda part: x[0][part])

        return jax.tree.map(split, rows)

    def _sharding(self, *spec: Any) -> NamedSharding:
        return NamedSharding(self.mesh, P(*spec))

    @contextlib.contextmanager
    def _mesh_set(self) -> Iterator[None]:
        mesh: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self._kind == "jit":
            # For statistics that are split by class; pmap brings a mesh of its own. Devices that
            # are only compiled for compute nothing, such as what is looked at while tracing.
            known = jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)
            mesh = known if self._planned else jax.set_mesh(self.mesh)
        with mesh, compiled_for(self._platform):
            yield

    def _place(self, x: jax.ShapeDtypeStruct) -> NamedSharding:
        """Splits a matrix or kernel over `fsdp` along its longest side that can be split."""
        parts = self.mesh.shape["fsdp"]
        sides = [(size, -axis) for axis, size in enumerate(x.shape) if size % parts == 0]
        if parts == 1 or not sides or len(x.shape) == 1:
            return self._sharding()
        split = -max(sides)[1]
        return self._sharding(*("fsdp" if axis == split else None for axis in range(len(x.shape))))

    def _compile(self, function: Function, axis: int) -> Callable[..., Any]:
        """The program of a function whose examples or rows are split along that axis."""
        function = functools.partial(function, self._task)
        if self._kind == "pmap":
            return pmapped(function, axis)
        batch = self._sharding(*[None] * axis, AXES)
        if self._kind == "shard_map":
            function = shard_mapped(function, self.mesh, axis)
            batch = self._sharding(*[None] * axis, "data")
        return jax.jit(
            function,
            in_shardings=(None, self._places, None, None, batch),
            out_shardings=(self._places, self._sharding()),
            donate_argnums=1,
            compiler_options=compiler.options(self._platform),
        )


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x)[0], tree)
