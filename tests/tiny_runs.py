"""What the tests of training share: a small network, a few images of four classes, batches."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import regjax as rj
import regjax.flax
from experiments.data.preprocessing import normalise
from experiments.models import layers
from experiments.training import optimizers
from experiments.training import step as training

CLASSES, SHAPE, COUNT, WIDTH = 4, (4, 4, 1), 48, 8


class Network(nnx.Module):
    """Logits and two hidden layers, with or without BatchNorm and dropout."""

    def __init__(self, rngs: nnx.Rngs, norm: bool, dropout: float, axis_name: str | None):
        self.hidden = nnx.Linear(16, WIDTH, rngs=rngs)
        self.norm = layers.BatchNorm(WIDTH, axis_name=axis_name, rngs=rngs) if norm else None
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.hidden(x.reshape(len(x), -1))
        h = jnp.tanh(self.norm(h) if self.norm else h)
        return self.head(self.dropout(h) if self.dropout else h)


@functools.cache
def task(
    optimizer: str = "sgd(momentum=0.9)",
    rate: float = 0.1,
    norm: bool = False,
    dropout: float = 0.0,
    clip: float = 0.0,
    **options: Any,
) -> training.Task:
    def build(key: jax.Array, axis_name: str | None = None) -> rj.Forward:
        network = Network(nnx.Rngs(key), norm, dropout, axis_name)
        return regjax.flax.bind(network, head="head")

    made = optimizers.optimizer(optimizer, rate, clip)
    return training.Task(build, made, normalise, CLASSES, **options)


@functools.cache
def data() -> training.Data:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
    label = (np.arange(COUNT) % CLASSES).astype(np.int32)
    image[np.arange(COUNT), label] = 255  # something to learn
    return training.Data(jnp.asarray(image), jnp.asarray(label))


def batches(seed: int, size: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Index and weight, `[steps, size]`."""
    generator = np.random.default_rng(seed)
    index = generator.permuted(np.tile(np.arange(COUNT, dtype=np.int32), (steps, 1)), axis=1)
    return index[:, :size], np.ones((steps, size), np.float32)


def numbers(expression: str) -> rj.Loss:
    """The loss, its numbers as arrays, as jitted functions take them."""
    return jax.tree.map(np.float32, rj.parse(expression))


@functools.cache
def program(task: training.Task) -> Any:
    """`train_steps` on the images above."""
    return jax.jit(functools.partial(training.train_steps, task, data()))


@functools.cache
def _starting(task: training.Task) -> Any:
    return jax.jit(
        lambda seed, loss: training.init_loss(task, SHAPE, training.init(task, seed), loss)
    )


def start(task: training.Task, loss: rj.Loss, seed: int) -> training.TrainState:
    return _starting(task)(np.uint32(seed), loss)


def run(
    task: training.Task, expression: str, index: np.ndarray, weight: np.ndarray, seed: int = 3
) -> tuple[training.TrainState, dict[str, Any], dict[str, Any]]:
    """All steps of one run on one device."""
    loss = numbers(expression)
    state = start(task, loss, seed)
    return program(task)(np.int32(len(index)), state, loss, np.uint32(seed), index, weight)
