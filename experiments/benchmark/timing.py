"""What the benchmarks share: networks on images of noise, and timings in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import regjax as rj
import regjax.flax
from experiments import models
from experiments.data.preprocessing import normalise
from experiments.training import optimizers
from experiments.training.descent import Descent


def random_task(
    model: str,
    shape: tuple[int, int, int],
    *,
    classes: int = 10,
    optimizer: str = "adam",
    dtype: Any = jnp.float32,
) -> Descent:
    """A network of the papers for images of that shape."""

    def build(key: jax.Array, axis_name: str | None = None) -> rj.Forward:
        network = models.create(model, shape, classes, nnx.Rngs(key), axis_name=axis_name)
        return regjax.flax.bind(network, head="head")

    example = {
        "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
        "label": jax.ShapeDtypeStruct((), jnp.int32),
    }
    made = optimizers.optimizer(optimizer, 1e-3)
    return Descent(build, made, normalise, classes, example, dtype)


def random_data(count: int, shape: tuple[int, int, int], classes: int = 10) -> dict[str, jax.Array]:
    """So many images of noise, and their classes."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (count, *shape)).astype(np.uint8)
    label = generator.integers(0, classes, count).astype(np.int32)
    return {"image": jnp.asarray(image), "label": jnp.asarray(label)}


def paired(a: Callable[[], float], b: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Two timings in turn: the median of the first, and that of the ratio of second to first."""
    a(), b()
    pairs = [(a(), b()) for _ in range(rounds)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] / p[0] for p in pairs)
