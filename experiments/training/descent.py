"""The task of most experiments: one network descends the gradient of a loss."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import regjax as rj
from experiments.data.whitening import PREPARED
from experiments.rows import block
from experiments.training.gradients import gradient, salted
from experiments.training.growth import Curve, grown
from experiments.training.task import Examples, Metrics, TrainState, blank


@dataclasses.dataclass(frozen=True, eq=False)
class Descent:
    """A network that is trained by an optimizer, see `task.Task`.

    Attributes:
      build: `key -> Forward`, a freshly initialised network; with `axis_name` also given, the
        mapped axis over which its BatchNorm takes statistics.
      optimizer: the optimizer, optax's.
      prepare: the normalisation, from stored images to the network's input, float32.
      classes: C, the number of classes.
      example: the pytree of `jax.ShapeDtypeStruct`, one stored example, "image" and "label".
      dtype: the type that the network computes in; parameters and statistics are float32 all the
        same.
      accumulate: the number of parts of a batch, of one size, whose gradients are taken one after
        the other.
      decay: the decay of the parameters' moving average; 0 for none.
      growing: the curves of numbers of the loss that grow with the steps.
      steps: the number of steps of a whole run.
      by_image: whether the loss of dense labels is a mean over images of each one's mean, and not
        over all labelled pixels; `dataclasses.replace(task, by_image=True)`.
      taught: whether a loss's mean teacher, where it has one, is evaluated in place of the network.
    """

    build: Callable[..., rj.Forward]
    optimizer: optax.GradientTransformation
    prepare: Callable[..., jax.Array]
    classes: int
    example: Any
    dtype: Any = jnp.float32
    accumulate: int = 1
    decay: float = 0.0
    growing: tuple[Curve, ...] = ()
    steps: int = 0
    by_image: bool = False
    taught: bool = False

    @functools.cached_property
    def untrained(self) -> rj.Forward:
        """The network without its parameters, which each run brings."""
        return jax.eval_shape(self.build, jax.random.key(0))

    def forward(self, params: Any, model_state: Any) -> rj.Forward:
        """The network with these parameters, which stay float32 whatever it computes in."""
        forward = self.untrained
        if self.dtype != jnp.float32:
            forward = forward.replace(apply=_InPrecision(forward.apply, self.dtype))
        return forward.replace(params=params, state=model_state)

    def batch(self, examples: Examples) -> rj.Batch:
        """Images normalised, labels one-hot, of which unlabelled images have none."""
        second = examples.unlabeled
        unlabeled = None if second is None else self._batch(second, labeled=False)
        return self._batch(examples, labeled=True).replace(unlabeled=unlabeled)

    def _batch(self, examples: Examples, labeled: bool) -> rj.Batch:
        image, label = examples.stored["image"], examples.stored["label"]
        label = label if labeled else jnp.full_like(label, -1, jnp.int32)
        probabilities = jax.nn.one_hot(label, self.classes)
        known = examples.stored.get(PREPARED)
        image = (self.prepare(image) if known is None else known).astype(self.dtype)
        return rj.Batch(image, probabilities, examples.number, examples.weight)

    def init(self, seed: jax.Array, objective: rj.Loss) -> TrainState:
        """The state before the first step; equal seeds give equal networks, whatever the loss."""
        if self.by_image and not self.example["label"].shape:
            raise ValueError("by_image is for a label at every pixel, but images have one each.")
        forward = self.build(_keys(seed)[0])
        opt_state = self.optimizer.init(forward.params)
        average = jax.tree.map(jnp.copy, forward.params) if self.decay else None
        batch = self.batch(blank(self.example, 1, unlabeled=1))
        own = self.forward(forward.params, forward.state)
        loss_state = objective.init(own, batch)
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, forward.params, average, forward.state, opt_state, loss_state)

    def step(
        self,
        state: TrainState,
        objective: rj.Loss,
        batch: rj.Batch,
        seed: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        """One step of the optimizer; its scalars are "total", the loss's, "gradient_norm"."""
        task, loss = self, grown(objective, self.growing, state.step, self.steps)
        if axis_name is not None:
            task, loss = self._across(axis_name), across(loss, axis_name)
        key = jax.random.fold_in(_keys(seed)[1], state.step)
        found = gradient(
            task.forward,
            state.params,
            state.model_state,
            state.loss_state,
            loss,
            batch,
            key,
            parts=self.accumulate,
            axis_name=axis_name,
            by_image=self.by_image,
        )
        updates, opt_state = self.optimizer.update(found.direction, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if self.decay:
            average = optax.incremental_update(params, average, 1 - self.decay)
        metrics = found.metrics | {"gradient_norm": optax.tree.norm(found.direction)}
        following = TrainState(
            state.step + 1, params, average, found.model_state, opt_state, found.loss_state
        )
        return following, {name: value.astype(jnp.float32) for name, value in metrics.items()}

    def _across(self, axis_name: str) -> Descent:
        """The task inside a mapped axis: BatchNorm over all devices, other dropout on each."""

        def build(key: jax.Array) -> rj.Forward:
            forward = self.build(key, axis_name=axis_name)
            return salted(forward, lambda: jax.lax.axis_index(axis_name), block)

        return dataclasses.replace(self, build=build)

    def terms(self, objective: rj.Loss) -> tuple[str, ...]:
        """The names of a step's scalars."""
        own = (n for n, stage in objective.named() if stage.definition.kind != "wrapper")
        return ("total", *own, "gradient_norm")

    def network(self, state: TrainState, part: str = "") -> rj.Forward:
        """The network with averaged parameters, if any, and BatchNorm's averages."""
        del part  # there is one
        params = state.average if self.decay else state.params
        forward = self.forward(params, state.model_state)
        if self.taught and "mean_teacher" in state.loss_state.stages:
            forward = rj.taught(forward, state.loss_state)
        return forward.frozen()


@dataclasses.dataclass(frozen=True)
class _InPrecision:
    """`Forward.apply` with its parameters cast; equal for equal ones, so nothing recompiles."""

    apply: Callable[..., rj.Outputs]
    dtype: Any

    def __call__(self, params: Any, *rest: Any) -> rj.Outputs:
        return self.apply(jax.tree.map(lambda x: x.astype(self.dtype), params), *rest)


def across(loss: rj.Loss, axis_name: str) -> rj.Loss:
    """The loss whose stages look at the examples of all devices of a mapped axis."""

    def stage(stage: Any) -> Any:
        if "axis_name" not in stage.definition.arguments:
            return stage
        return dataclasses.replace(stage, arguments={**stage.arguments, "axis_name": axis_name})

    return rj.Loss(tuple(stage(each) for each in loss.stages))


def _keys(seed: jax.Array) -> jax.Array:
    """The keys of a run: for its initial network, for its steps."""
    return jax.random.split(jax.random.key(seed))
