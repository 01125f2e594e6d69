"""What the benchmarks share: networks on images of noise, and timings in turn."""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.preprocessing import normalise
from experiments.runs import networks
from experiments.training import optimizers
from experiments.training.descent import Descent


def processor() -> str:
    """The processor's name and its widest instructions, where Linux tells them."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    widest = next((each for each in ("avx512f", "avx2", "asimd") if f" {each} " in text), "")
    return " ".join(filter(None, [name[1].strip() if name else platform.processor(), widest]))


def random_task(
    model: str,
    shape: tuple[int, int, int],
    *,
    classes: int = 10,
    optimizer: str = "adam",
    dtype: Any = jnp.float32,
) -> Descent:
    """A network of the papers for images of that shape."""
    example = {
        "image": jax.ShapeDtypeStruct(shape, jnp.uint8),
        "label": jax.ShapeDtypeStruct((), jnp.int32),
    }
    made = optimizers.optimizer(optimizer, 1e-3)
    build = networks.builder(model, shape, classes)
    return Descent(build, made, normalise, classes, example, dtype)


def random_data(count: int, shape: tuple[int, int, int], classes: int = 10) -> dict[str, jax.Array]:
    """So many images of noise, and their classes."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (count, *shape)).astype(np.uint8)
    label = generator.integers(0, classes, count).astype(np.int32)
    return {"image": jnp.asarray(image), "label": jnp.asarray(label)}


def in_turn(*timings: Callable[[], float], rounds: int) -> list[list[float]]:
    """So many rounds of all timings, one after the other, once each has been warmed up."""
    for timing in timings:
        timing()
    return [[timing() for timing in timings] for _ in range(rounds)]


def paired(a: Callable[[], float], b: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Two timings in turn: the median of the first, and that of the ratio of second to first."""
    pairs = in_turn(a, b, rounds=rounds)
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] / p[0] for p in pairs)
