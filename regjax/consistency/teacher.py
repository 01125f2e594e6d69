"""The mean teacher: the network agrees with the average of itself over the steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax.consistency.distances import squared_distance
from regjax.consistency.views import AVERAGES
from regjax.core.batch import Batch
from regjax.core.checks import check_choice
from regjax.core.forward import Forward
from regjax.core.keys import named_key
from regjax.core.loss import LossState
from regjax.core.precision import wide
from regjax.core.second import Second
from regjax.core.stages import Share, penalty


class Teacher(NamedTuple):
    """The teacher.

    Attributes:
      params: like the network's parameters, float32 at least: their average.
      averages: like the network's state: BatchNorm's averages over what the teacher saw.
      steps: `[]` int32, of how many networks it is the average.
    """

    params: Any
    averages: Any
    steps: jax.Array


def _first(forward: Forward, batch: Batch, **_: Any) -> Teacher:
    del batch
    params = jax.tree.map(wide, forward.params)
    return Teacher(params, forward.state, jnp.zeros((), jnp.int32))


def _followed(state: Teacher, network: Forward, *, decay: jax.Array | float, **_: Any) -> Teacher:
    """The teacher that has seen the network as it is now."""

    def moved(mean: jax.Array, now: jax.Array) -> jax.Array:
        keep = jnp.minimum(1 - 1 / (state.steps + 1).astype(mean.dtype), decay)
        # In this form, a network that stays the same is its own teacher exactly.
        return mean + (1 - keep) * (jax.lax.stop_gradient(wide(now)) - mean)

    params = jax.tree.map(moved, state.params, network.params)
    return Teacher(params, state.averages, state.steps + 1)


@penalty(over="unlabeled", init=_first, begin=_followed)
def mean_teacher(
    second: Second,
    key: jax.Array,
    state: Teacher,
    part: jax.Array,
    *,
    decay: Share = 0.999,
    shared: tuple[str, ...] = (),
    batch_norm: str = "batch",
    averages: str = "moved",
) -> tuple[jax.Array, Teacher]:
    """The mean teacher: the distance to what the average of all earlier networks predicts.

    `1/C sum_c (p_c - p'_c)^2` where p' is the teacher's prediction for another view, a target. At
    step n the teacher is `theta' <- a theta' + (1 - a) theta` with `a = min(1 - 1/(n+1), decay)`:
    the plain mean at first. See "Mean teachers are better role models" (Tarvainen and Valpola,
    2017), eqs. (1) and (2).

    When it helps: as `pi_model`, and in place of temporal ensembling where images are many; the
    weight grows to 100 on CIFAR-10. The teacher is what is evaluated (`rj.consistency.taught`).
    Cost: a pass for every unlabelled image, and a forward pass of the teacher. Memory: the
    parameters once more.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, w.
      decay: of the average, between 0 and 1.
      shared: the wrappers that draw alike in both views.
      batch_norm: "batch" where the teacher normalises by its batch and keeps averages of its own,
        as in the authors' program; "frozen" where it normalises by those averages, which then stay
        as the network's were at first.
      averages: as in `pi_model`, of the network's own.

    Returns:
      A `Loss` with a penalty `[U]` over `batch.unlabeled`, squared probabilities; its state is
      `Teacher`.

    Raises:
      TypeError: `shared` is no tuple.
      ValueError: no unlabelled examples, wrappers with a state, an unknown `averages` or
        `batch_norm`, a name of no wrapper in `shared`.

    Example:
      >>> import regjax as rj
      >>> rj.mean_teacher(rj.cross_entropy(), weight=100.0)
      cross_entropy | mean_teacher(weight=100.0)
    """
    del decay  # of `begin`
    del part  # asked for, so that each part moves the averages that the parts before it left
    check_choice("mean_teacher's averages", averages, AVERAGES)
    check_choice("mean_teacher's batch_norm", batch_norm, ("batch", "frozen"))
    forward, batch = second.again(key, shared)
    teacher = forward.replace(params=state.params, state=state.averages)
    teacher = teacher if batch_norm == "batch" else teacher.frozen()
    outputs = jax.lax.stop_gradient(teacher(batch.image, named_key(key, "forward()")))
    values = squared_distance(second.outputs.logits, outputs.logits)
    return values, state._replace(averages=outputs.state)


def taught(forward: Forward, state: LossState, name: str = "mean_teacher") -> Forward:
    """The teacher in the place of the network.

    Args:
      forward: the network.
      state: the loss's.
      name: of the stage, "mean_teacher_2" of a second one.

    Returns:
      A `Forward` with the teacher's parameters and BatchNorm averages.

    Raises:
      ValueError: the loss has no such stage.

    Example:
      >>> import regjax as rj
      >>> forward = rj.from_function(lambda w, x: x @ w, jnp.eye(2))
      >>> batch = rj.Batch(jnp.ones((1, 2)), jnp.ones((1, 2)) / 2)
      >>> loss = rj.mean_teacher(rj.cross_entropy(), weight=1.0)
      >>> print(taught(forward, loss.init(forward, batch)).params[0])
      [1. 0.]
    """
    teacher = state.stages.get(name)
    if not isinstance(teacher, Teacher):
        raise ValueError(
            f"the loss has no teacher {name!r}; its stages with a state are: "
            f"{', '.join(state.stages) or 'none'}."
        )
    return forward.replace(params=teacher.params, state=teacher.averages)
