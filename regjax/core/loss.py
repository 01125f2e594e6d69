"""The loss algebra: a loss is a value, a regularizer is a function from loss to loss.

`Loss` holds stages: one base, any wrappers, any penalties. The decorators that make stages of plain
functions are in `stages.py`, the network in `forward.py`, its linearisation in `point.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from regjax.core.batch import Batch, counted, labeled, weighted_mean
from regjax.core.checks import check_batch, check_logits, check_term
from regjax.core.forward import Forward
from regjax.core.keys import named_key
from regjax.core.outputs import Outputs
from regjax.core.point import Point
from regjax.core.result import Result
from regjax.core.second import Second

if TYPE_CHECKING:
    from regjax.core.definitions import Stage


class View(Protocol):
    """What a loss's wrappers make of other examples, with draws of a key."""

    def __call__(
        self, batch: Batch, key: jax.Array, keys: Mapping[str, jax.Array] | None = None
    ) -> tuple[Forward, Batch]:
        """`keys` are those of wrappers, by name, that are to draw by others."""


class LossState(NamedTuple):
    """What a loss carries from step to step.

    Attributes:
      step: the number of times the loss was applied, int32 `[]`; schedules are functions of it.
      stages: the states of the stages that have one, by the stage's name.
    """

    step: jax.Array
    stages: dict[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Loss:
    """A loss: one base and the stages around it, a pytree whose leaves are its numbers.

    Print it to see its expression; `regjax.parse` reads that back. Losses that differ only in
    numbers share one compiled program, and `jax.vmap` runs over losses stacked by `jax.tree.map`.

    Attributes:
      stages: the base, then wrappers and penalties in the order in which they were put on.
    """

    stages: tuple[Stage, ...]

    def init(self, forward: Forward, batch: Batch) -> LossState:
        """The state before the first step; needs shapes only, so `jax.eval_shape` may call it."""
        check_batch(batch)
        step = jnp.zeros((), jnp.int32)
        states = {
            name: stage.definition.init(forward, batch, **stage.keywords(step))
            for name, stage in self.named()
            if stage.definition.init is not None
        }
        return LossState(step, states)

    def apply(
        self,
        state: LossState,
        forward: Forward,
        batch: Batch,
        key: jax.Array,
        *,
        part: int | jax.Array | None = None,
    ) -> tuple[Result, LossState]:
        """The loss and its penalties at a batch, and the next state.

        Wrappers act from the outside in, the network runs and is linearised once where they lead,
        and the base and the penalties all look at that one point. An example whose label is all 0
        is padding: neither averaged nor mixed with others.

        Args:
          state: what `init` or the last `apply` returned.
          forward: the network.
          batch: the examples.
          key: drives every draw; each stage and the network's dropout get keys of their own by
            name, so that adding a stage leaves the draws of the others as they were.
          part: number of the part of a batch whose gradient is accumulated, int32 `[]`, for the
            stages of `in_parts`; None, a whole batch, is 0.

        Returns:
          `Result` and the next state.

        Raises:
          TypeError: no key, an image or label that is not floating, a stage that returns no array.
          ValueError: shapes that do not fit, labels that are not `[B, C]`, another loss's state.
        """
        if key is None:
            raise TypeError("Loss.apply needs a key, such as jax.random.key(0), but it is None.")
        check_batch(batch)
        state = self.begin(state, forward)
        return self.apply_weighted(state, forward, labeled(batch), key, part=part)

    def begin(self, state: LossState, forward: Forward) -> LossState:
        """The state at the beginning of a step: what stages make of the network's parameters.

        Called once for a step, whatever the number of its parts, and outside the derivative.
        """
        self._check_state(state)
        stages = dict(state.stages)
        for name, stage in self.named():
            if stage.definition.begin is not None:
                given = stage.keywords(state.step)
                stages[name] = stage.definition.begin(state.stages[name], forward, **given)
        return LossState(state.step, stages)

    def apply_weighted(
        self,
        state: LossState,
        forward: Forward,
        batch: Batch,
        key: jax.Array,
        *,
        part: int | jax.Array | None = None,
    ) -> tuple[Result, LossState]:
        """What `apply` does after `begin`, of weights that are 0 where there is no label."""
        self._check_state(state)
        (base_name, base), *others = self.named()
        number = jnp.asarray(0 if part is None else part, jnp.int32)
        network, view, given = forward, self._view(state.step, forward, number), batch
        forward, batch, states = self._wrapped(state, forward, batch, key, number)

        def run(name: str, stage: Stage, batch: Batch, **inputs: Any) -> tuple[Any, Any]:
            inputs |= {"key": named_key(key, name), "state": state.stages.get(name), "part": number}
            inputs |= {"forward": forward, "batch": batch, "network": network, "view": view}
            return stage.run(state.step, inputs)

        def evaluate(outputs: Outputs) -> tuple[jax.Array, Any]:
            check_logits(outputs.logits, batch)
            losses, next_state = run(base_name, base, batch, outputs=outputs)
            return check_term(base_name, losses, batch, scalar=False), next_state

        point = Point(forward, batch, named_key(key, "forward()"), evaluate)
        losses, states[base_name] = point.losses, point.base_state
        weight = _own_weight(batch, given)
        metrics = {base_name: weighted_mean(losses, given.weight if weight is None else weight)}
        terms: dict[str, dict[str, jax.Array]] = {"batch": {}, "unlabeled": {}}
        second = self._second(view, batch, key, point)
        more = {"point": point, "second": second, "base": base.keywords(state.step)}
        images = batch.replace(weight=given.weight)  # over which penalties stay means
        for name, stage in others:
            if stage.definition.kind == "penalty":
                over = _examples(name, stage, images)
                value, states[name] = run(name, stage, images, **more)
                value = check_term(name, value, over, scalar=True)
                terms[stage.definition.over][name] = stage.weight(state.step) * value
                metrics[name] = weighted_mean(value, over.weight) if value.ndim else value
        kept = {name: states[name] for name in state.stages}
        outputs = point.outputs
        if second is not None and any(moves_averages(stage) for _, stage in others):
            outputs = outputs._replace(state=second.outputs.state)
        of = (losses, terms["batch"], outputs, metrics, terms["unlabeled"], weight)
        return Result(*of), LossState(state.step + 1, kept)

    def weight(
        self, state: LossState, forward: Forward, batch: Batch, key: jax.Array, part: jax.Array
    ) -> jax.Array | None:
        """The `Result.weight` of `apply_weighted`, without the network's answer."""
        return _own_weight(self._wrapped(state, forward, batch, key, part)[1], batch)

    def _wrapped(
        self, state: LossState, forward: Forward, batch: Batch, key: jax.Array, part: jax.Array
    ) -> tuple[Forward, Batch, dict[str, Any]]:
        """What the wrappers, from the outside in, make of network and batch, and their states."""
        states: dict[str, Any] = {}
        weighs = ""
        for name, stage in reversed([*self.named()][1:]):
            if stage.definition.kind == "wrapper":
                inputs = {"forward": forward, "batch": batch, "key": named_key(key, name)}
                inputs |= {"state": state.stages.get(name), "part": part}
                before = batch
                (forward, batch), states[name] = stage.run(state.step, inputs)
                if weighs and batch.label is not before.label:
                    raise ValueError(
                        f"{name} changes the labels that {weighs} has made weights of: put "
                        f"{weighs} next to the base, as in 'cross_entropy | {weighs}(...) | "
                        f"{name}(...)'."
                    )
                weighs = weighs if batch.weight is before.weight else name
        return forward, batch, states

    def in_parts(self) -> frozenset[str]:
        """The names of the stages whose state is handed on from one part of a batch to the next.

        Where the gradient of a batch is accumulated over parts, these are given, in every part, the
        state as the parts before left it, and the number of the part. All others with a state are
        given that of the step's beginning in every part, and what the last makes of it is kept.

        Returns:
          Names of `LossState.stages`: of the stages that ask for `part`.

        Example:
          >>> import regjax as rj
          >>> sorted(rj.parse("isda(strength=0.5) | l2(weight=0.1)").in_parts())
          ['isda']
        """
        return frozenset(name for name, s in self.named() if "part" in s.definition.inputs)

    def _view(self, step: jax.Array, network: Forward, part: jax.Array) -> View:
        """What `view` is to the stages that ask for it."""
        wrappers = [(n, s) for n, s in self.named() if s.definition.kind == "wrapper"]

        def view(
            batch: Batch, key: jax.Array, keys: Mapping[str, jax.Array] | None = None
        ) -> tuple[Forward, Batch]:
            check_batch(batch)
            forward, own = network, keys or {}
            for name, stage in reversed(wrappers):
                if stage.definition.init is not None:
                    raise ValueError(
                        f"a view is of wrappers without state, but {name} has one, which a second "
                        "batch would change: leave it out, or the stage that asks for 'view'."
                    )
                inputs = {"forward": forward, "batch": batch, "part": part}
                inputs["key"] = named_key(own.get(name, key), name)
                (forward, batch), _ = stage.run(step, inputs)
            return forward, batch

        return view

    def _second(self, view: View, batch: Batch, key: jax.Array, point: Point) -> Second | None:
        """The unlabelled examples, where a stage asks for them."""
        if batch.unlabeled is None:
            return None
        if not any("second" in stage.definition.inputs for stage in self.stages):
            return None
        return Second(view, batch.unlabeled, named_key(key, "unlabeled"), point.outputs.state)

    def named(self) -> Iterator[tuple[str, Stage]]:
        """The stages with their names; the second of a kind is called `name_2`."""
        seen: set[str] = set()
        for stage in self.stages:
            name = stage.definition.name
            numbered = (f"{name}_{i}" for i in itertools.count(2))
            name = next(n for n in itertools.chain([name], numbered) if n not in seen)
            seen.add(name)
            yield name, stage

    def _check_state(self, state: LossState) -> None:
        needed = {name for name, stage in self.named() if stage.definition.init is not None}
        if not isinstance(state, LossState):
            raise TypeError(
                f"the state must be what loss.init(forward, batch) returned, but it is a "
                f"{type(state).__name__}."
            )
        if needed != set(state.stages):
            raise ValueError(
                f"the state holds the stages {sorted(state.stages)}, but {self!r} needs "
                f"{sorted(needed)}: make it with loss.init(forward, batch)."
            )

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.stages))

    def __eq__(self, other: object) -> bool:
        """Whether both are the same expression, number by number."""
        if not isinstance(other, Loss):
            return NotImplemented
        if not jax.tree.structure(self) == jax.tree.structure(other):  # type: ignore[operator]
            return False
        return all(map(np.array_equal, jax.tree.leaves(self), jax.tree.leaves(other)))

    __hash__ = None  # type: ignore[assignment]


def _own_weight(batch: Batch, given: Batch) -> jax.Array | None:
    """What examples count in the base's mean; None where that is the weight that was given."""
    weight = counted(batch)
    return None if weight is given.weight else weight


def moves_averages(stage: Stage) -> bool:
    """Whether the pass over the unlabelled examples' first view moves BatchNorm's averages."""
    return "second" in stage.definition.inputs and stage.arguments.get("averages") == "moved"


def _examples(name: str, stage: Stage, batch: Batch) -> Batch:
    """The examples that a penalty has a number for."""
    if stage.definition.over == "batch":
        return batch
    if batch.unlabeled is None:
        raise ValueError(f"{name} needs batch.unlabeled, a Batch of unlabelled examples.")
    return batch.unlabeled
