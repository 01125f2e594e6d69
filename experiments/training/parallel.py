"""One run on many devices, of one process or of many: the batch is spread over them.

The functions of `training.py` are compiled in one of three ways, to the same result:

- "jit": the program of one device; the compiler splits it as the batch is split. Parameters may be
  split as well, over the axis `fsdp` of the mesh.
- "shard_map": the program of each device, with the sums over devices written out.
- "pmap": the same, for those who still use it; on one process only.

The interface is that of `sweep.Sweep` with one run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import regjax as rj
from experiments.evaluation import perturbed as robustness
from experiments.evaluation.perturbed import Perturbation
from experiments.training import devices
from experiments.training import step as training
from experiments.training.step import Data, Metrics, Task, TrainState

KINDS = ("jit", "shard_map", "pmap")
AXES = ("data", "fsdp")  # of the mesh; a batch is split over both
# (task, shared, state, loss, seed, *batch, axis_name) -> (state, whatever is alike everywhere)
Function = Callable[..., tuple[TrainState, Any]]


def _advance(
    task: Task, shared: Any, *rest: Any, axis_name: str | None = None
) -> tuple[TrainState, Any]:
    state, *metrics = training.train_steps(task, *shared, *rest, axis_name=axis_name)
    return state, metrics


def _step(
    task: Task, _: Any, state: Any, loss: Any, seed: Any, *batch: Any, axis_name: str | None = None
) -> tuple[TrainState, Any]:
    batch_of = training.make_batch(task, *batch)
    return training.train_step(task, state, loss, batch_of, seed, axis_name)


def _start(task: Task, shape: tuple[int, ...], seed: jax.Array, loss: rj.Loss) -> TrainState:
    return training.init_loss(task, shape, training.init(task, seed), loss)


class Parallel:
    """The compiled programs of one run at a time, its batches spread over all devices."""

    def __init__(
        self, task: Task, data: Data | None, shape: tuple[int, ...], kind: str, fsdp: int = 1
    ) -> None:
        """Places the data on every device; nothing is compiled before its first call.

        Args:
          task: what is trained; `build` takes `axis_name`, over which BatchNorm is synchronised.
          data: in memory, for `advance` and `predict_all`; None for streams.
          shape: of an image.
          kind: "jit", "shard_map" or "pmap".
          fsdp: devices over which the parameters are split.

        Raises:
          ValueError: an unknown kind, or one that cannot do this.
        """
        if kind not in KINDS:
            raise ValueError(f"config.parallelism is {kind!r}; it can be {', '.join(KINDS)}.")
        if fsdp != 1 and kind != "jit":
            raise ValueError(f"config.fsdp={fsdp} needs config.parallelism='jit', not {kind!r}.")
        if kind == "pmap" and jax.process_count() > 1:
            raise ValueError("config.parallelism='pmap' runs in one process only: use 'shard_map'.")
        self.mesh, self._task, self._shape, self._kind = devices.mesh(fsdp), task, shape, kind
        self.data = None if data is None else jax.device_put(data, self._sharding())
        self._places: Any = None
        self._start = functools.partial(_start, task, shape)  # one object, compiled once
        self._jitted = functools.cache(self._compile)
        self._predict = jax.jit(
            lambda state, image, *rest: (training.predict(task, state, image), *rest),
            out_shardings=self._sharding(),
        )
        self._predict_all = jax.jit(
            functools.partial(training.predict_all, task),
            in_shardings=(None, None, self._sharding(None, AXES)),
            out_shardings=self._sharding(),
        )
        self._perturbed = functools.cache(self._new_perturbed)
        self._perturbed_all = functools.cache(
            lambda perturbation: jax.jit(
                functools.partial(robustness.perturbed_all, task, perturbation),
                in_shardings=(None, None, self._sharding(None, AXES)),
                out_shardings=self._sharding(),
            )
        )

    runs_multiple = 1

    @property
    def batch_multiple(self) -> int:
        """What the size of a batch must be a multiple of."""
        return jax.device_count() * self._task.accumulate

    def init(self, losses: rj.Loss, seeds: np.ndarray) -> TrainState:
        """The state before the first step, for a loss whose numbers and seeds are `[1]`."""
        arguments = (_first(seeds), _first(losses))
        with self._mesh_set():
            places = jax.tree.map(self._place, jax.eval_shape(self._start, *arguments))
            # The loss says itself where its state is, which may be split by class.
            whole = jax.tree.map(lambda _: self._sharding(), places.model_state)
            places = places._replace(model_state=whole, loss_state=None)
            state = jax.jit(self._start, out_shardings=places)(*arguments)
        places = jax.tree.map(lambda x: x.sharding, state)
        if places != self._places:
            self._jitted.cache_clear()  # of programs for a state that lies elsewhere
        self._places = places
        return state

    def advance(
        self,
        state: TrainState,
        losses: rj.Loss,
        seeds: np.ndarray,
        index: np.ndarray,
        weight: np.ndarray,
        count: int,
    ) -> tuple[TrainState, Metrics, Metrics]:
        """Takes `count` steps on the examples `index [1, K, B]`; `state` is given away.

        Returns:
          The next state, and `train_steps`'s means and first broken steps, each `[1]`.
        """
        program = self._jitted(_advance, 1, 2)
        shared, batch = (self.data, np.int32(count)), (self._split(index), self._split(weight))
        with self._mesh_set():
            state, metrics = program(shared, state, _first(losses), _first(seeds), *batch)
        means, broken = jax.tree.map(lambda x: x[None], metrics)
        return state, means, broken

    def step(
        self, state: TrainState, losses: rj.Loss, seeds: np.ndarray, batch: Sequence[jax.Array]
    ) -> tuple[TrainState, Metrics]:
        """Takes one step on a batch that `place` put on the devices; `state` is given away.

        Returns:
          The next state and `train_step`'s scalars.
        """
        program = self._jitted(_step, 0, len(batch))
        with self._mesh_set():
            return program((), state, _first(losses), _first(seeds), *batch)

    def lower(
        self, state: TrainState, losses: rj.Loss, seeds: np.ndarray, batch: Sequence[jax.Array]
    ) -> jax.stages.Lowered:
        """The program of `step`, to be compiled and looked at; not of kind "pmap"."""
        program: Any = self._jitted(_step, 0, len(batch))
        with self._mesh_set():
            return program.lower((), state, _first(losses), _first(seeds), *batch)

    def place(self, batch: Sequence[np.ndarray]) -> list[jax.Array]:
        """This process's share of a batch, as arrays over the devices of all processes."""
        sharding = self._sharding(AXES)
        return [jax.make_array_from_process_local_data(sharding, part) for part in batch]

    def predict(self, state: TrainState, batch: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """Logits `[B, C]` of a placed batch's images, and its other parts, whole on each device."""
        return self._predict(state, *batch)

    def predict_all(self, state: TrainState, index: np.ndarray) -> jax.Array:
        """Logits `[1, K * B, C]` of the examples `index [1, K, B]`."""
        return self._predict_all(self.data, state, self._split(index))[None]

    def perturbed(
        self, state: TrainState, perturbation: Perturbation, batch: Sequence[jax.Array]
    ) -> tuple[jax.Array, ...]:
        """Logits `[L, B, C]` at all levels, of a placed batch's images, labels and indices.

        Followed by the batch's other parts, all whole on each device.
        """
        return self._perturbed(perturbation)(state, *batch)

    def perturbed_all(
        self, state: TrainState, perturbation: Perturbation, index: np.ndarray, data: Data | None
    ) -> jax.Array:
        """Logits `[1, L, K * B, C]` of `index [1, K, B]`, as `Sweep.perturbed_all`."""
        data = self.data if data is None else jax.device_put(data, self._sharding())
        return self._perturbed_all(perturbation)(data, state, self._split(index))[None]

    def _split(self, x: np.ndarray) -> jax.Array:
        """Of `x [1, K, B]`, which all processes have, `[K, B]` split along its examples."""
        return jax.make_array_from_callback(
            x.shape[1:], self._sharding(None, AXES), lambda part: x[0][part]
        )

    def _new_perturbed(self, perturbation: Perturbation) -> Callable[..., tuple[jax.Array, ...]]:
        def program(
            state: TrainState, image: jax.Array, label: jax.Array, index: jax.Array, *rest: Any
        ) -> tuple[jax.Array, ...]:
            of = (self._task, perturbation, state)
            return (robustness.perturbed(*of, image, label, index), label, *rest)

        return jax.jit(program, out_shardings=self._sharding())

    def _sharding(self, *spec: Any) -> NamedSharding:
        return NamedSharding(self.mesh, P(*spec))

    def _mesh_set(self) -> contextlib.AbstractContextManager[Any]:
        # For statistics that are split by class; pmap brings a mesh of its own.
        return jax.set_mesh(self.mesh) if self._kind == "jit" else contextlib.nullcontext()

    def _place(self, x: jax.ShapeDtypeStruct) -> NamedSharding:
        """Splits a matrix or kernel over `fsdp` along its longest side that can be split."""
        parts = self.mesh.shape["fsdp"]
        sides = [(size, -axis) for axis, size in enumerate(x.shape) if size % parts == 0]
        if parts == 1 or not sides or len(x.shape) == 1:
            return self._sharding()
        split = -max(sides)[1]
        return self._sharding(*("fsdp" if axis == split else None for axis in range(len(x.shape))))

    def _compile(self, function: Function, axis: int, parts: int) -> Callable[..., Any]:
        """The program of a function whose `parts` of a batch are split along that axis."""
        if self._kind == "pmap":
            return _pmapped(functools.partial(function, _synchronised(self._task)), axis, parts)
        spec = (*[None] * axis, AXES if self._kind == "jit" else "data")
        if self._kind == "jit":
            program: Callable[..., Any] = functools.partial(function, self._task)
        else:
            program = jax.shard_map(
                _across(functools.partial(function, _synchronised(self._task))),
                mesh=self.mesh,
                in_specs=(*[P()] * 4, *[P(*spec)] * parts),
                out_specs=P(),
            )
        batch = [self._sharding(*spec)] * parts
        return jax.jit(
            program,
            in_shardings=(None, self._places, None, None, *batch),
            out_shardings=(self._places, self._sharding()),
            donate_argnums=1,
        )


def _pmapped(function: Function, axis: int, parts: int) -> Callable[..., Any]:
    mapped = jax.pmap(
        _across(function),
        axis_name="data",
        in_axes=(*[None] * 4, *[0] * parts),
        out_axes=None,
    )

    def split(x: Any) -> Any:
        devices = jax.device_count()
        x = x.reshape(*x.shape[:axis], devices, -1, *x.shape[axis + 1 :])
        return np.moveaxis(np.asarray(x), axis, 0)

    return lambda *arguments: mapped(*arguments[:4], *map(split, arguments[4:]))


def _across(function: Function) -> Function:
    """The function inside a mapped axis `data`, with a loss that looks at all of it."""

    def on_device(shared: Any, state: Any, loss: rj.Loss, *rest: Any) -> tuple[TrainState, Any]:
        return function(shared, state, across(loss, "data"), *rest, axis_name="data")

    return on_device


def across(loss: rj.Loss, axis_name: str) -> rj.Loss:
    """The loss whose stages look at the examples of all devices of a mapped axis."""

    def stage(stage: Any) -> Any:
        if "axis_name" not in stage.definition.arguments:
            return stage
        return dataclasses.replace(stage, arguments={**stage.arguments, "axis_name": axis_name})

    return rj.Loss(tuple(stage(each) for each in loss.stages))


def _synchronised(task: Task) -> Task:
    """The task inside a mapped axis: BatchNorm over all devices, dropout different on each."""

    def build(key: jax.Array) -> rj.Forward:
        forward = task.build(key, axis_name="data")
        return training.salted(forward, lambda: jax.lax.axis_index("data"))

    return dataclasses.replace(task, build=build)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x)[0], tree)
