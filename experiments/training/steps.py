"""Many steps, and measurements of many examples, each in one compiled loop over stored data."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from experiments.training.task import (
    Evaluation,
    Metrics,
    Rows,
    Task,
    TrainState,
    blank,
    gather,
)

NEVER = jnp.iinfo(jnp.int32).max


def advance(
    task: Task,
    stored: Any,
    count: jax.Array,
    state: TrainState,
    objective: Any,
    seed: jax.Array,
    rows: Rows,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics, Metrics]:
    """The first `count` of the steps on the rows `[K, B]`, in one compiled loop.

    `count` is traced, so that runs of any length share one program.

    Returns:
      The state after them; the mean of each of the step's scalars over them; and for each the first
      step at which it was not finite, `NEVER` if it always was.
    """

    def body(i: jax.Array, carry: Any) -> Any:
        state, sums, broken = carry
        batch = task.batch(gather(stored, jax.tree.map(lambda x: x[i], rows)))
        following, metrics = task.step(state, objective, batch, seed, axis_name)
        broken = jax.tree.map(
            lambda first, m: jnp.where(jnp.isfinite(m), first, jnp.minimum(first, state.step)),
            broken,
            metrics,
        )
        return following, jax.tree.map(jnp.add, sums, metrics), broken

    # By name, since to trace a step for them would take as long as to trace the loop.
    names = task.terms(objective)
    zeros = dict.fromkeys(names, jnp.zeros((), jnp.float32))
    never = dict.fromkeys(names, jnp.full((), NEVER))
    state, sums, broken = jax.lax.fori_loop(0, count, body, (state, zeros, never))
    return state, jax.tree.map(lambda s: s / count, sums), broken


def measure(
    task: Task, evaluation: Evaluation, stored: Any, state: TrainState, rows: Rows
) -> dict[str, jax.Array]:
    """The measurements of the rows `[K, B]`, each `[K * B, ...]`."""
    parts = jax.lax.map(lambda each: evaluation.measure(task, state, gather(stored, each)), rows)
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in parts.items()}


def check(task: Task, example: Any, objective: Any, size: int, unlabeled: int = 0) -> None:
    """Traces a step: raises what the objective and the network say to it.

    Args:
      task: what is trained.
      example: pytree of `jax.ShapeDtypeStruct`, one stored example.
      objective: to be minimised.
      size: of a batch.
      unlabeled: of its second stream, 0 for none.
    """

    def step() -> TrainState:
        seed = jnp.zeros((), jnp.uint32)
        batch = task.batch(blank(example, size, unlabeled))
        return task.step(task.init(seed, objective), objective, batch, seed)[0]

    jax.eval_shape(step)
