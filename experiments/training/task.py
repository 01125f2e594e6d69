"""What training knows of an experiment: the rows of a step, a task, an evaluation.

Stored data are any pytree of arrays `[N, ...]`, such as `{"image": uint8, "label": int32}`. A feed
says by `Rows` which of them a step sees, `gather` takes them out as `Examples`, and a `Task` makes
a batch of these and takes the step. `sweep.py` and `parallel.py` compile a task and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

import regjax as rj

Metrics = dict[str, jax.Array]


class Rows(NamedTuple):
    """Which stored examples a step sees; mirrors `rj.Batch`.

    Attributes:
      index: int32 `[B]`, their places in the stored data.
      weight: the weights, float32 `[B]`, 0 on padding.
      number: int32 `[B]`, the number that random draws go by; None where that is the index.
      unlabeled: the rows of a second stream, whose labels nobody looks at, or None.
    """

    index: Any
    weight: Any
    number: Any = None
    unlabeled: Rows | None = None


class Examples(NamedTuple):
    """The examples of some rows.

    Attributes:
      stored: pytree of arrays `[B, ...]`, as they are stored.
      number: int32 `[B]`, the numbers that random draws go by.
      weight: the weights, float32 `[B]`, 0 on padding.
      unlabeled: the examples of a second stream, or None.
    """

    stored: Any
    number: Any
    weight: Any
    unlabeled: Examples | None = None


def gather(stored: Any, rows: Rows) -> Examples:
    """The examples that the rows name, out of the stored data `[N, ...]`."""
    each = jax.tree.map(lambda x: x[rows.index], stored)
    number = rows.index if rows.number is None else rows.number
    second = None if rows.unlabeled is None else gather(stored, rows.unlabeled)
    return Examples(each, number, rows.weight, second)


def blank(example: Any, size: int, unlabeled: int = 0) -> Examples:
    """Examples of zeros, for shapes.

    Args:
      example: pytree of `jax.ShapeDtypeStruct`, one stored example.
      size: how many.
      unlabeled: how many in the second stream, 0 for none.
    """
    stored = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), example)
    second = blank(example, unlabeled) if unlabeled else None
    return Examples(stored, jnp.zeros(size, jnp.int32), jnp.ones(size), second)


class TrainState(NamedTuple):
    """All that a run carries from step to step.

    Attributes:
      step: int32 `[]`, the steps taken.
      params: the networks' parameters, float32.
      average: their exponential moving average, which is what is evaluated; None without one.
      model_state: BatchNorm's averages, float32.
      opt_state: the optimizer's state.
      loss_state: the objective's state.
    """

    step: jax.Array
    params: Any
    average: Any
    model_state: Any
    opt_state: optax.OptState
    loss_state: Any


class Task(Protocol):
    """What is trained, as pure functions of one run.

    An objective is any pytree of numbers that prints as its expression; an `rj.Loss` is one.
    Objectives that differ in numbers only are trained together in one program.
    """

    @property
    def accumulate(self) -> int:
        """Parts of equal size into which a step splits its batch; 1 where it does not."""

    def init(self, seed: jax.Array, objective: Any) -> TrainState:
        """The state before the first step; equal seeds give equal networks."""

    def batch(self, examples: Examples) -> rj.Batch:
        """The batch that `step` and evaluations see."""

    def step(
        self,
        state: TrainState,
        objective: Any,
        batch: rj.Batch,
        seed: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        """One step.

        Args:
          state: of the run.
          objective: of the run.
          batch: under `pmap` or `shard_map` this device's examples.
          seed: the run's, from which the keys of its steps are derived.
          axis_name: the mapped axis over which the batch is spread.

        Returns:
          The next state and float32 scalars by the names of `terms`, the same on every device.
        """

    def terms(self, objective: Any) -> tuple[str, ...]:
        """The names of a step's scalars, "total", which is minimised, among them."""

    def network(self, state: TrainState, part: str = "") -> rj.Forward:
        """A trained network as it is evaluated; `part` names one where there are several."""


class Evaluation(Protocol):
    """What networks are scored by: small measurements by example, and numbers made of them.

    A value: equal ones share a compiled program.
    """

    def __hash__(self) -> int:
        """Of the value."""

    def measure(self, task: Any, state: TrainState, examples: Examples) -> dict[str, jax.Array]:
        """Measurements by name, each `[B, ...]` with a row for each example; compiled."""

    def scores(self, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Numbers, or lists of them, by name, of the measurements `[N, ...]` of N examples."""
