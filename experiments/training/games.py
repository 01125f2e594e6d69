"""The task of two players: a generator, and the critic that tells its images from real ones.

A step is one of the critic, on a batch of real images. WGAN's generator moves behind the last of
the critic's steps that are due, all others' at every step; so each step of the critic has images of
its own, however many there are, and what was stopped goes on with the count that it had.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import regjax as rj
from experiments.rows import block
from experiments.training.generator import Generator
from experiments.training.gradients import salted
from experiments.training.objectives import Objective
from experiments.training.playing import PLAYERS, Pair, Play
from experiments.training.task import Examples, Metrics, TrainState

# (objective, key, axis_name=None) -> a Forward of each player.
Build = Callable[..., dict[str, rj.Forward]]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("taken", "since"), meta_fields=("objective",)
)
@dataclasses.dataclass(frozen=True)
class Moves:
    """Whose turn it is.

    Attributes:
      taken: int32 `[]`, the generator's steps.
      since: int32 `[]`, the critic's steps since the generator's last.
      objective: what is played for, without its numbers.
    """

    taken: jax.Array
    since: jax.Array
    objective: Objective


@dataclasses.dataclass(frozen=True, eq=False)
class Game:
    """Two players that are trained by optimizers of one kind, see `task.Task`.

    Attributes:
      build: the function that makes freshly initialised networks.
      optimizer: the optimizer of each player, by the count of its own steps.
      noise: the numbers of a latent that are noise.
      classes: C, the number of classes.
      example: the pytree of `jax.ShapeDtypeStruct`, one stored example, "image" and "label".
      decay: the decay of the generator's moving average; 0 for none.
    """

    build: Build
    optimizer: optax.GradientTransformation
    noise: int
    classes: int
    example: Any
    decay: float = 0.0
    accumulate: int = 1

    @functools.cached_property
    def _untrained(self) -> Callable[[Objective, str | None], dict[str, rj.Forward]]:
        """The networks without their parameters, which each run brings."""

        @functools.cache
        def untrained(name: str, axis_name: str | None) -> dict[str, rj.Forward]:
            build = functools.partial(self.build, Objective({}, name), axis_name=axis_name)
            return jax.eval_shape(build, jax.random.key(0))

        return lambda objective, axis_name: untrained(objective.name, axis_name)

    def batch(self, examples: Examples) -> rj.Batch:
        """Images in [-1, 1], labels one-hot."""
        image, label = examples.stored["image"], examples.stored["label"]
        scaled = image.astype(jnp.float32) / (255 if image.dtype == jnp.uint8 else 1)
        one_hot = jax.nn.one_hot(label, self.classes)
        return rj.Batch(2 * scaled - 1, one_hot, examples.number, examples.weight)

    def init(self, seed: jax.Array, objective: Objective) -> TrainState:
        """The state before the first step; equal seeds give equal networks."""

        def start(key: jax.Array) -> Pair:
            networks = self.build(objective, key, axis_name=None)
            params = {player: networks[player].params for player in PLAYERS}
            state = {player: networks[player].state for player in PLAYERS}
            return Pair(params, state, {p: self.optimizer.init(params[p]) for p in PLAYERS})

        key, each = _keys(seed)[0], objective.each_class
        pair = jax.lax.map(start, jax.random.split(key, self.classes)) if each else start(key)
        zero = jnp.zeros((), jnp.int32)
        moves = Moves(zero, zero, dataclasses.replace(objective, numbers={}))
        average = jax.tree.map(jnp.copy, pair.params["generator"]) if self.decay else None
        return TrainState(zero, pair.params, average, pair.model_state, pair.opt_state, moves)

    def step(
        self,
        state: TrainState,
        objective: Objective,
        batch: rj.Batch,
        seed: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        """One step of the critic, and of the generator where it is its turn."""
        moves: Moves = state.loss_state
        due, since = objective.due(moves.taken), moves.since + 1
        turn = None if due is None else since >= due
        networks = self._networks(objective, axis_name)
        play = Play(networks, self.optimizer, self.noise, objective, turn, axis_name)
        key = jax.random.fold_in(_keys(seed)[1], state.step)
        pair = Pair(state.params, state.model_state, state.opt_state)
        if objective.each_class:
            pair, metrics = play.each_class(pair, batch, key)
        else:
            pair, metrics = play.step(pair, play.drawn(batch, rj.example_keys(key, batch), key))
        moved = True if turn is None else turn
        moves = dataclasses.replace(
            moves,
            taken=moves.taken + jnp.asarray(moved, jnp.int32),
            since=jnp.where(moved, 0, since),
        )
        average = self._averaged(state.average, pair.params["generator"], moved)
        following = TrainState(state.step + 1, pair.params, average, *pair[1:], moves)
        return following, metrics

    def _averaged(self, average: Any, params: Any, moved: Any) -> Any:
        if not self.decay:
            return None
        following = optax.incremental_update(params, average, 1 - self.decay)
        return jax.tree.map(lambda a, b: jnp.where(moved, a, b), following, average)

    def _networks(self, objective: Objective, axis_name: str | None) -> dict[str, rj.Forward]:
        """The networks, inside a mapped axis with BatchNorm over all devices, dropout on each."""
        networks = self._untrained(objective, axis_name)
        if axis_name is None:
            return networks
        of_device = functools.partial(jax.lax.axis_index, axis_name)
        return {player: salted(each, of_device, block) for player, each in networks.items()}

    def terms(self, objective: Objective) -> tuple[str, ...]:
        """The names of a step's scalars."""
        return objective.terms

    def network(self, state: TrainState, part: str = "") -> rj.Forward:
        """The generator, averaged if it is, or the "critic", with BatchNorm's averages.

        Those of one pair for each class have arrays with a leading axis of classes. A generator is
        a function of latents with labels behind them: `generator` says it in the words of users.
        """
        player = part or "generator"
        if player not in PLAYERS:
            raise ValueError(f"the parts of a game are {', '.join(PLAYERS)}, not {part!r}.")
        averaged = self.decay and player == "generator"
        params = state.average if averaged else state.params[player]
        forward = self._untrained(state.loss_state.objective, None)[player]
        return forward.replace(params=params, state=state.model_state[player]).frozen()

    def generator(self, state: TrainState) -> Generator:
        """The trained generator, as a function of latents and labels."""
        objective: Objective = state.loss_state.objective
        return Generator(
            network=self.network(state),
            latents=self.noise + objective.codes,
            classes=self.classes,
            image_shape=tuple(self.example["image"].shape),
            codes=objective.codes,
            of=objective.of,
        )


def _keys(seed: jax.Array) -> jax.Array:
    """The keys of a run: for its initial networks, for its steps."""
    return jax.random.split(jax.random.key(seed))
