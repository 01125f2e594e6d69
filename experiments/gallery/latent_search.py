"""A search for images whose features are given: ISDA's eqs. (20) and (21).

It is a task like any other, whose parameters are the latents of many images, and so it is compiled,
mapped over and stepped by the same `Sweep` as trainings are: each run has targets of its own. There
is no folder and no checkpoint, since it takes minutes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import regjax as rj
from experiments.training.generator import Generator
from experiments.training.sweep import Sweep, stack
from experiments.training.task import Examples, Metrics, Rows, TrainState

MOMENTUM, DECAY = 0.9, 1e-4  # of the paper, which divides the rates by 10 after every quarter
QUARTERS, FACTOR = 4, 0.1
CALL = 20  # steps of one call of the device

Make = Callable[[jax.Array, rj.Batch], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Near:
    """What is minimised, `|f(G(zhat)) - target|^2 + eta |G(zhat) - x|^2`, summed over images.

    Attributes:
      target: the features to reach, `[N, A]`.
      eta: what the pixels count.
      rate: the first learning rate.
    """

    target: Any
    eta: Any
    rate: Any

    def __repr__(self) -> str:
        return f"near(eta={self.eta}, rate={self.rate})"


def normalised(latent: jax.Array) -> jax.Array:
    """`(z - mean(z)) / std(z)` of each latent `[B, L]`, with torch's deviation, by L - 1.

    Example:
      >>> print(normalised(jnp.array([[1.0, 2.0, 3.0]])))
      [[-1.  0.  1.]]
    """
    apart = latent - latent.mean(-1, keepdims=True)
    return apart / latent.std(-1, keepdims=True, ddof=1)


def by_generator(generator: Generator) -> Make:
    """Images of a generator, of the classes of a batch."""
    return lambda latent, batch: generator(latent, jnp.argmax(batch.label, -1))


def by_pixels(latent: jax.Array, batch: rj.Batch) -> jax.Array:
    """Images whose pixels are the latents, with mean and deviation of the batch's images.

    Of what is cut off at 0 and 1 the derivative is kept, or it would never come back.
    """
    flat = batch.image.reshape(latent.shape)
    mean, std = flat.mean(-1, keepdims=True), flat.std(-1, keepdims=True, ddof=1)
    image = mean + std * latent
    image = image + jax.lax.stop_gradient(jnp.clip(image, 0, 1) - image)
    return image.reshape(batch.image.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """The search, see `training.task.Task`; every step is of all images.

    Attributes:
      make: `(zhat [N, L], batch) -> images [N, H, W, K]`, in [0, 1].
      features: `images -> [N, A]`.
      start: the first latents, `[N, L]`.
      classes: C.
      iterations: of the whole search.
    """

    make: Make
    features: Callable[[jax.Array], jax.Array]
    start: jax.Array
    classes: int
    iterations: int
    accumulate: int = 1

    def init(self, seed: jax.Array, objective: Near) -> TrainState:
        """The state before the first step."""
        opt_state = _optimizer().init(self.start)
        return TrainState(jnp.zeros((), jnp.int32), self.start, None, (), opt_state, None)

    def batch(self, examples: Examples) -> rj.Batch:
        """Images in [0, 1], with one-hot labels."""
        label = jax.nn.one_hot(examples.stored["label"], self.classes)
        return rj.Batch(examples.stored["image"], label, examples.number, examples.weight)

    def errors(
        self, latent: jax.Array, target: jax.Array, batch: rj.Batch
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Images of latents, and the squared distances of their features and pixels, `[N]`."""
        image = self.make(normalised(latent), batch)
        near = jnp.sum((self.features(image) - target) ** 2, -1)
        return image, near, jnp.sum((image - batch.image) ** 2, (-3, -2, -1))

    def step(
        self,
        state: TrainState,
        objective: Near,
        batch: rj.Batch,
        seed: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        """One step of gradient descent with momentum; its scalar is "total"."""

        def loss(latents: jax.Array) -> jax.Array:
            place = batch.index
            _, features, pixels = self.errors(latents[place], objective.target[place], batch)
            return jnp.sum(batch.weight * (features + objective.eta * pixels))

        total, direction = jax.value_and_grad(loss)(state.params)
        if axis_name is not None:
            total, direction = jax.lax.psum((total, direction), axis_name)
        moved, opt_state = _optimizer().update(direction, state.opt_state, state.params)
        rate = objective.rate * FACTOR ** (QUARTERS * state.step // self.iterations)
        params = state.params - rate * moved
        following = state._replace(step=state.step + 1, params=params, opt_state=opt_state)
        return following, {"total": total.astype(jnp.float32)}

    def terms(self, objective: Near) -> tuple[str, ...]:
        """The names of a step's scalars."""
        return ("total",)

    def network(self, state: TrainState, part: str = "") -> rj.Forward:
        """The normalised latents `[B, L]` of images by their numbers `[B]`."""
        del part  # there is one
        return rj.from_function(lambda latent, index: normalised(latent[index]), state.params)


def _optimizer() -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(DECAY), optax.trace(MOMENTUM))


class Found(NamedTuple):
    """What searches found: R of N images each.

    Attributes:
      latent: `[R, N, L]`.
      image: in [0, 1], `[R, N, H, W, K]`.
      features: squared distances from the targets, `[R, N]`.
      pixels: mean squared distances from the images, `[R, N]`.
    """

    latent: np.ndarray
    image: np.ndarray
    features: np.ndarray
    pixels: np.ndarray

    def part(self, start: int, count: int) -> Found:
        """So many of the searches, from one on."""
        return Found(*(each[start : start + count] for each in self))


def search(task: Search, stored: Any, wanted: Sequence[Near], bar: tqdm) -> Found:
    """Runs a search for each of the objectives, all in one program.

    Args:
      task: the search.
      stored: "image" `[N, H, W, K]`, in [0, 1], and "label" `[N]`.
      wanted: the objectives.
      bar: moved on by a step for each.
    """
    program, objectives = Sweep(task, stored), stack(wanted)
    extra = -len(wanted) % program.runs_multiple  # devices of a mesh get as many runs each
    objectives = stack([*wanted, *[wanted[-1]] * extra])
    seeds = np.zeros(len(wanted) + extra, np.uint32)
    every = np.arange(len(stored["label"]), dtype=np.int32)
    index = np.broadcast_to(every, (len(seeds), CALL, len(every)))
    rows = Rows(index, np.ones(index.shape, np.float32))
    states = program.init(objectives, seeds)
    for start in range(0, task.iterations, CALL):
        count = min(CALL, task.iterations - start)
        states, means, _ = program.advance(states, objectives, seeds, rows, count)
        bar.set_postfix(loss=f"{np.mean(means['total']) / len(every):.3g}", refresh=False)
        bar.update(count)
    return reached(task, np.asarray(states.params)[: len(wanted)], wanted, stored)


def reached(task: Search, latents: Any, wanted: Sequence[Near], stored: Any) -> Found:
    """What latents `[R, N, L]` have come to, for one objective each; the rest as in `search`."""
    every = jnp.arange(len(stored["label"]))
    batch = task.batch(Examples(stored, every, jnp.ones(len(every))))
    targets = jnp.stack([jnp.asarray(each.target) for each in wanted])

    def errors(own: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        return task.errors(own[0], own[1], batch)

    mapped = jax.jit(lambda each: jax.lax.map(errors, each))
    image, features, pixels = map(np.asarray, mapped((jnp.asarray(latents), targets)))
    return Found(np.asarray(latents), image, features, pixels / np.prod(image.shape[2:]))
