"""What a user may bring, one of each kind, none of it in the packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import regjax as rj
from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.evaluation.segmentation import Segmentation
from experiments.runs import networks
from experiments.runs.experiment import Config, Experiment
from experiments.training.gradients import mean, mean_gradient
from experiments.training.task import Examples, Metrics, TrainState
from regjax.core.calls import read_call

SIDE, CLASSES = 4, 3


@rj.penalty
def small_logits(point):
    """The squared logits."""
    return (point.outputs.logits**2).sum(-1)


@rj.penalty(over="unlabeled")
def agreeing_views(batch, view, key):
    """How far two views of an unlabelled image are apart: a semi-supervised method."""
    views = [view(batch.unlabeled, each) for each in jax.random.split(key)]
    first, second = (jax.nn.softmax(forward(b.image).logits) for forward, b in views)
    return jnp.sum((first - jax.lax.stop_gradient(second)) ** 2, -1)


class Tiny(nnx.Module):
    """A network: one hidden layer."""

    def __init__(self, image_shape: tuple[int, ...], classes: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(int(np.prod(image_shape)), 8, rngs=rngs)
        self.head = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class Pixelwise(nnx.Module):
    """A network with a class for every pixel."""

    def __init__(self, image_shape: tuple[int, ...], classes: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Conv(image_shape[-1], 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.head = nnx.Conv(6, classes, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.norm(self.hidden(x))))


def images(count: int, seed: int) -> dict[str, np.ndarray]:
    """Images whose class is the brightest of the first pixels."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 200, (count, SIDE, SIDE, 1)).astype(np.uint8)
    label = (np.arange(count) % CLASSES).astype(np.int32)
    image[np.arange(count), 0, label] = 255
    return {"image": image, "label": label}


def masks(count: int, seed: int) -> dict[str, np.ndarray]:
    """Images whose pixels have a class by their brightness; the border is to be ignored."""
    image = images(count, seed)["image"]
    label = (image[..., 0] // 86).astype(np.int32)
    label[:, 0] = 255
    return {"image": image, "label": label}


def dataset(draw: Any = images) -> Dataset:
    """A data set in memory."""
    names = tuple("abc")
    return Dataset("toys", draw(36, 0), draw(12, 1), CLASSES, names, "test")


def pictures() -> Dataset:
    """The same with each pixel as four, which generators can make."""

    def larger(split: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**split, "image": split["image"].repeat(2, axis=1).repeat(2, axis=2)}

    small = dataset()
    return dataclasses.replace(small, train=larger(small.train), test=larger(small.test))


PIXELS = Experiment(
    name="toys:PIXELS",
    parse=rj.parse,
    read=lambda config: dataset(masks),
    task=networks.descent,
    evaluation=lambda config, spec: Segmentation(spec.classes),
    score="miou",
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Wasserstein:
    """What generator and critic play for, with the bound of the critic's weights."""

    clip: Any

    def __repr__(self) -> str:
        return f"wasserstein(clip={self.clip})"


def parse(text: str) -> Wasserstein:
    """Reads it from its expression."""
    name, given = read_call(text)
    if name != "wasserstein":
        raise ValueError(f"unknown objective {text!r}; known is: wasserstein(clip=0.1).")
    return Wasserstein(float(given["clip"]))


@dataclasses.dataclass(frozen=True, eq=False)
class Players:
    """A generator and its critic, both linear, in one task."""

    example: Any
    accumulate: int = 1

    def _optimizer(self) -> Any:
        each = {"generator": optax.adam(0.02), "critic": optax.sgd(0.05)}
        return optax.partition(each, {"generator": "generator", "critic": "critic"})

    def _pixels(self) -> int:
        return int(np.prod(self.example["image"].shape))

    def init(self, seed: jax.Array, objective: Wasserstein) -> TrainState:
        kernel = 0.1 * jax.random.normal(jax.random.key(seed), (2, self._pixels()))
        params = {"generator": kernel, "critic": jnp.zeros(self._pixels())}
        opt_state = self._optimizer().init(params)
        return TrainState(jnp.zeros((), jnp.int32), params, None, (), opt_state, None)

    def batch(self, examples: Examples) -> rj.Batch:
        image = examples.stored["image"].astype(jnp.float32) / 255
        label = jax.nn.one_hot(examples.stored["label"], CLASSES)
        return rj.Batch(image, label, examples.number, examples.weight)

    def step(
        self,
        state: TrainState,
        objective: Wasserstein,
        batch: rj.Batch,
        seed: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), state.step)
        real = batch.image.reshape(len(batch.image), -1)

        def game(params: Any) -> tuple[jax.Array, jax.Array]:
            fake = generated(params["generator"], rj.example_keys(key, batch))
            fixed = jax.lax.stop_gradient(params)
            apart = jnp.mean((real - jax.lax.stop_gradient(fake)) @ params["critic"])
            return -apart - jnp.mean(fake @ fixed["critic"]), apart

        total, apart, direction = mean_gradient(game, state.params, batch, axis_name)
        updates, opt_state = self._optimizer().update(direction, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params["critic"] = jnp.clip(params["critic"], -objective.clip, objective.clip)
        following = state._replace(step=state.step + 1, params=params, opt_state=opt_state)
        return following, {"total": total, "apart": mean(apart, axis_name)}

    def terms(self, objective: Wasserstein) -> tuple[str, ...]:
        return ("total", "apart")

    def network(self, state: TrainState, part: str = "") -> rj.Forward:
        if part == "critic":
            return rj.from_function(judged, state.params["critic"])
        return rj.from_function(lambda p, z: z @ p, state.params["generator"])


def judged(kernel: jax.Array, image: jax.Array) -> jax.Array:
    """How real images are, `[B, 1]`."""
    return (image.reshape(len(image), -1) @ kernel)[:, None]


def generated(kernel: jax.Array, keys: jax.Array) -> jax.Array:
    """An image of noise for each key, `[B, pixels]`."""
    return jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys) @ kernel


@dataclasses.dataclass(frozen=True)
class Brightness:
    """How near generated images come to real ones in their mean brightness."""

    def measure(self, task: Players, state: TrainState, examples: Examples) -> dict[str, Any]:
        batch = task.batch(examples)
        fake = generated(state.params["generator"], rj.example_keys(jax.random.key(0), batch))
        return {"real": batch.image.mean((1, 2, 3)), "fake": fake.mean(-1)}

    def scores(self, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {"nearness": -abs(float(rows["real"].mean() - rows["fake"].mean()))}


def players(config: Config, spec: Spec, steps_per_epoch: float) -> Players:
    """The task of a config."""
    return Players(spec.example, config["accumulate"])


GENERATOR = Experiment(
    name="toys:GENERATOR",
    parse=parse,
    read=lambda config: dataset(),
    task=players,
    evaluation=lambda config, spec: Brightness(),
    score="nearness",
)
