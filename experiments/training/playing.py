"""A step of two players: the critic's, and behind it the generator's where it is its turn."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import regjax as rj
from experiments import platform
from experiments.training import adversarial
from experiments.training.generator import drawn_latents, told
from experiments.training.gradients import mean
from experiments.training.objectives import Objective
from experiments.training.task import Metrics
from regjax.core.axes import varying_as

PLAYERS = ("generator", "critic")


class Pair(NamedTuple):
    """Two players; each field is a dict by player.

    Attributes:
      params: the parameters.
      model_state: BatchNorm's averages.
      opt_state: the optimizers' states.
    """

    params: dict[str, Any]
    model_state: dict[str, Any]
    opt_state: dict[str, Any]


class Drawn(NamedTuple):
    """What a pair sees in a step.

    Attributes:
      image: real images in [-1, 1], `[B, H, W, K]`.
      label: one-hot, `[B, C]`.
      latent: `[B, L]`.
      share: from U(0, 1), `[B]`, for the penalty.
      weight: `[B]`, what an example counts in a mean over all devices.
      key: of dropout.
    """

    image: jax.Array
    label: jax.Array
    latent: jax.Array
    share: jax.Array
    weight: jax.Array
    key: jax.Array


@dataclasses.dataclass(frozen=True)
class Play:
    """What the moves of a step share.

    Attributes:
      networks: a network of each player; a pair brings its parameters and averages.
      optimizer: the optimizer of each player.
      noise: the numbers of a latent that are noise.
      objective: what is played for.
      turn: whether the generator moves, bool `[]`; None where it always does.
      axis_name: the mapped axis over which the batch is spread.
    """

    networks: dict[str, rj.Forward]
    optimizer: optax.GradientTransformation
    noise: int
    objective: Objective
    turn: jax.Array | None = None
    axis_name: str | None = None

    def drawn(self, batch: rj.Batch, keys: jax.Array, key: jax.Array) -> Drawn:
        """A batch with latents of its examples' keys, `[B]`."""
        codes = self.objective.codes
        latent = drawn_latents(keys, self.noise + codes, codes)
        weight = jnp.ones(len(latent)) if batch.weight is None else batch.weight
        whole = mean(jnp.sum(weight), self.axis_name)
        # So that the mean over devices of their sums is that over all examples.
        weight = weight / jnp.where(whole == 0, 1, whole)
        share = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)
        own = jax.random.fold_in(key, 2**31 - 1)  # no example's number
        return Drawn(batch.image, batch.label, latent, share, weight, own)

    def each_class(self, pairs: Pair, batch: rj.Batch, key: jax.Array) -> tuple[Pair, Metrics]:
        """The step of every class's pair, arrays `[C, ...]`; metrics are means over them."""
        classes = batch.label.shape[1]

        def one(each: tuple[jax.Array, Pair]) -> tuple[Pair, Metrics]:
            number, pair = each
            own = jax.random.fold_in(key, number)
            mine, keys = of_class(batch, number, own)
            return self.step(pair, self.drawn(mine, keys, own))

        numbered = (jnp.arange(classes), pairs)
        one_by_one = platform() == "cpu"
        pairs, metrics = jax.lax.map(one, numbered) if one_by_one else jax.vmap(one)(numbered)
        return pairs, jax.tree.map(jnp.mean, metrics)

    def step(self, pair: Pair, drawn: Drawn) -> tuple[Pair, Metrics]:
        """The critic's step, and the generator's on the same latents where it is its turn."""
        params = self._varying(pair.params["generator"], drawn)
        forward = self.networks["generator"].replace(state=pair.model_state["generator"])

        def generate(params: Any) -> tuple[jax.Array, Any]:
            x = told(drawn.latent, drawn.label, self.objective.of)
            out = forward.replace(params=params)(x, jax.random.fold_in(drawn.key, 0))
            return out.logits, out.state

        # To the critic its images are constants: only `pull` leads back to the generator.
        fake, pull, averages = jax.vjp(generate, params, has_aux=True)
        following, metrics = self._critic(pair, drawn, fake)

        def move(pair: Pair) -> Pair:
            (direction,) = pull(self._slope(pair, drawn, fake))
            rate = self.objective.numbers["rate"]
            return self._moved(pair, "generator", direction, averages, rate)

        if self.turn is None:
            return move(following), metrics
        return jax.lax.cond(self.turn, move, lambda pair: pair, following), metrics

    def _critic(self, pair: Pair, drawn: Drawn, fake: jax.Array) -> tuple[Pair, Metrics]:
        objective, numbers = self.objective, self.objective.numbers
        if "clip" in numbers:
            within = adversarial.clipped(pair.params["critic"], numbers["clip"])
            pair = pair._replace(params=pair.params | {"critic": within})
        codes = drawn.latent[:, self.noise :]

        def loss(params: Any) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
            mine = pair._replace(params=pair.params | {"critic": params})
            real, first = self._judged(mine, drawn, drawn.image, 1)
            mine = mine._replace(model_state=pair.model_state | {"critic": first})
            fakes, second = self._judged(mine, drawn, fake, 2)
            each = objective.critic(real, fakes, drawn.label, codes)
            own = {"generator": objective.generator(fakes, drawn.label, codes)}
            own |= {"distance": -each} if objective.name == "wgan" else {}
            if "penalty" in numbers:
                each = each + numbers["penalty"] * self._penalty(mine, drawn, fake)
            means = {name: jnp.sum(drawn.weight * x) for name, x in own.items()}
            return jnp.sum(drawn.weight * each), (second, means)

        params = self._varying(pair.params["critic"], drawn)
        (total, (averages, means)), direction = jax.value_and_grad(loss, has_aux=True)(params)
        total, means = mean((total, means), self.axis_name)
        norm = optax.tree.norm(mean(direction, self.axis_name))
        moved = self._moved(pair, "critic", direction, averages)
        return moved, {"total": total, **means, "gradient_norm": norm}

    def _penalty(self, pair: Pair, drawn: Drawn, fake: jax.Array) -> jax.Array:
        def critic(image: jax.Array) -> jax.Array:
            return self._judged(pair, drawn, image, 3)[0]

        return adversarial.gradient_penalty(critic, drawn.image, fake, drawn.share)

    def _slope(self, pair: Pair, drawn: Drawn, fake: jax.Array) -> jax.Array:
        """The gradient of the generator's loss with respect to its images."""

        def loss(fake: jax.Array) -> jax.Array:
            fakes, _ = self._judged(pair, drawn, fake, 4)
            each = self.objective.generator(fakes, drawn.label, drawn.latent[:, self.noise :])
            return jnp.sum(drawn.weight * each)

        return jax.grad(loss)(fake)

    def _judged(
        self, pair: Pair, drawn: Drawn, image: jax.Array, salt: int
    ) -> tuple[jax.Array, Any]:
        """The critic's outputs of images, `[B, 1 + M]`, and its averages behind them."""
        classes = drawn.label.shape[1]
        if self.objective.maps(classes):
            label = drawn.label[:, None, None, :]
            maps = jnp.broadcast_to(label, (*image.shape[:3], classes))
            image = jnp.concatenate([image, maps], -1)
        params, state = pair.params["critic"], pair.model_state["critic"]
        forward = self.networks["critic"].replace(params=params, state=state)
        out = forward(image, jax.random.fold_in(drawn.key, salt))
        return out.logits, out.state

    def _moved(
        self, pair: Pair, player: str, direction: Any, averages: Any, rate: Any = 1.0
    ) -> Pair:
        """The pair behind a player's step; `direction` is this device's."""
        params = pair.params[player]
        direction = mean(direction, self.axis_name)
        updates, opt_state = self.optimizer.update(direction, pair.opt_state[player], params)
        updates = jax.tree.map(lambda update: rate * update, updates)
        return Pair(
            pair.params | {player: optax.apply_updates(params, updates)},
            pair.model_state | {player: averages},
            pair.opt_state | {player: opt_state},
        )

    def _varying(self, params: Any, drawn: Drawn) -> Any:
        # Of the device's own copy, so that the gradient is its own until the mean is taken.
        return jax.tree.map(lambda p: varying_as(p, drawn.image), params)


def of_class(batch: rj.Batch, number: jax.Array, key: jax.Array) -> tuple[rj.Batch, jax.Array]:
    """The examples of a class in a batch, B / C of them, each again where there are fewer.

    Args:
      batch: of B examples with one-hot labels `[B, C]`.
      number: of the class, int32 `[]`.
      key: of the class.

    Returns:
      The examples, of weight 0 where there are none, and a key for each, other ones where an
      example stands twice.
    """
    classes = batch.label.shape[1]
    size = max(1, len(batch.image) // classes)
    weight = jnp.ones(len(batch.image)) if batch.weight is None else batch.weight
    mine = (batch.label[:, number] > 0) & (weight > 0)
    count = jnp.sum(mine)
    place = jnp.arange(size)
    at = jnp.argsort(~mine, stable=True)[place % jnp.maximum(count, 1)]
    again = place // jnp.maximum(count, 1)
    found = jax.tree.map(lambda x: x[at], batch)
    found = found.replace(weight=jnp.full(size, 1.0) * (count > 0))
    keys = jax.vmap(jax.random.fold_in)(rj.example_keys(key, found), again)
    return found, keys
