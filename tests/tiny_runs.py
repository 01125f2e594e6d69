"""What the tests of training share: a small network, a few images of four classes, batches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import regjax as rj
import regjax.flax
from experiments.data.preprocessing import normalise
from experiments.models import layers
from experiments.models.shakes import ShakeDrop
from experiments.training import optimizers, steps
from experiments.training.descent import Descent
from experiments.training.task import Examples, Rows, TrainState

CLASSES, SHAPE, COUNT, WIDTH = 4, (4, 4, 1), 48, 8
EXAMPLE = {
    "image": jax.ShapeDtypeStruct(SHAPE, jnp.uint8),
    "label": jax.ShapeDtypeStruct((), jnp.int32),
}


class Network(nnx.Module):
    """Logits and two hidden layers, with or without BatchNorm, dropout and ShakeDrop."""

    def __init__(
        self, rngs: nnx.Rngs, norm: bool, dropout: float, shake: float, axis_name: str | None
    ):
        self.hidden = nnx.Linear(16, WIDTH, rngs=rngs)
        self.norm = layers.BatchNorm(WIDTH, axis_name=axis_name, rngs=rngs) if norm else None
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.shake = ShakeDrop(0, shake, rngs=rngs) if shake else None
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.hidden(x.reshape(len(x), -1))
        h = jnp.tanh(self.norm(h) if self.norm else h)
        h = self.shake(h) if self.shake else h
        return self.head(self.dropout(h) if self.dropout else h)


@functools.cache
def task(
    optimizer: str = "sgd(momentum=0.9)",
    rate: float = 0.1,
    norm: bool = False,
    dropout: float = 0.0,
    shake: float = 0.0,
    clip: float = 0.0,
    **options: Any,
) -> Descent:
    def build(key: jax.Array, axis_name: str | None = None) -> rj.Forward:
        network = Network(nnx.Rngs(key), norm, dropout, shake, axis_name)
        return regjax.flax.bind(network, head="head")

    made = optimizers.optimizer(optimizer, rate, clip)
    return Descent(build, made, normalise, CLASSES, EXAMPLE, **options)


@functools.cache
def data() -> dict[str, jax.Array]:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
    label = (np.arange(COUNT) % CLASSES).astype(np.int32)
    image[np.arange(COUNT), label] = 255  # something to learn
    return {"image": jnp.asarray(image), "label": jnp.asarray(label)}


def batches(seed: int, size: int, steps: int) -> Rows:
    """Rows `[steps, size]`."""
    generator = np.random.default_rng(seed)
    index = generator.permuted(np.tile(np.arange(COUNT, dtype=np.int32), (steps, 1)), axis=1)
    return Rows(index[:, :size], np.ones((steps, size), np.float32))


def numbers(expression: str) -> rj.Loss:
    """The loss, its numbers as arrays, as jitted functions take them."""
    return jax.tree.map(np.float32, rj.parse(expression))


@functools.cache
def program(task: Descent) -> Any:
    """`steps.advance` on the images above."""
    return jax.jit(functools.partial(steps.advance, task, data()))


@functools.cache
def _starting(task: Descent) -> Any:
    return jax.jit(task.init)


def start(task: Descent, loss: rj.Loss, seed: int) -> TrainState:
    return _starting(task)(np.uint32(seed), loss)


def run(
    task: Descent, expression: str, rows: Rows, seed: int = 3
) -> tuple[TrainState, dict[str, Any], dict[str, Any]]:
    """All steps of one run on one device."""
    loss = numbers(expression)
    state = start(task, loss, seed)
    return program(task)(np.int32(len(rows.index)), state, loss, np.uint32(seed), rows)


@dataclasses.dataclass(frozen=True)
class Logits:
    """The logits themselves, and what their draws go by, as an evaluation."""

    def measure(self, task: Any, state: TrainState, examples: Examples) -> dict[str, jax.Array]:
        logits = task.network(state)(task.batch(examples).image).logits
        return {"logits": logits.astype(jnp.float32), "number": examples.number}

    def scores(self, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {"mean": float(rows["logits"].mean())}
