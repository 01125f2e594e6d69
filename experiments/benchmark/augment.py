"""What augmentation costs by itself, without a network, by the thousand images.

`tables.py` shows the table.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from tqdm import tqdm

import regjax as rj
from experiments.benchmark.timing import random_data
from experiments.data.preprocessing import normalise

STAGES = (
    "random_flip",
    "random_crop(padding=4)",
    "affine",
    "cutout(size=16)",
    "auto_augment",
    "auto_augment(as_in_program=True)",
    "rand_augment(operations=2, magnitude=9)",
)
TABLES = {
    "augment": (
        "Augmentation by itself, per 1,000 images (GFLOP and GB read and written: XLA's counts of\n"
        "the compiled program, one by one for each array and number)",
        {"stage": "s", "gflop": ".3f", "gigabytes": ".3f", "ms": ".1f"},
    )
}


class Setting(NamedTuple):
    """Images `[batch, *shape]`, so many rounds of each of the stages."""

    shape: tuple[int, int, int]
    batch: int
    rounds: int
    stages: tuple[str, ...]


FULL = Setting((32, 32, 3), 250, 15, STAGES)
QUICK = Setting((8, 8, 3), 8, 3, STAGES[:1] + STAGES[-1:])


class Program:
    """A stage alone, compiled, on images of noise; per 1,000 of them `gflop` and `gigabytes`."""

    def __init__(self, stage: str, setting: Setting) -> None:
        """Compiles and counts."""
        self._thousands = setting.batch / 1000
        (_, link) = rj.parse(f"cross_entropy | {stage}").stages

        def change(image: jax.Array, key: jax.Array) -> jax.Array:
            batch = rj.Batch(image, jnp.ones((len(image), 1)))
            return link.definition.function(None, batch, key, **link.arguments)[1].image

        image = normalise(random_data(setting.batch, setting.shape)["image"])
        self._given = (image, jax.random.key(0))
        self._compiled = jax.jit(change).lower(*self._given).compile()
        counted: Any = self._compiled.cost_analysis()
        self.gflop = counted["flops"] / 1e9 / self._thousands
        self.gigabytes = counted["bytes accessed"] / 1e9 / self._thousands

    def milliseconds(self) -> float:
        """Time per 1,000 images."""
        start = time.perf_counter()
        jax.block_until_ready(self._compiled(*self._given))
        return 1e3 * (time.perf_counter() - start) / self._thousands


def costs(setting: Setting) -> dict[str, Any]:
    """A row for each stage: counts, and the median time."""
    rows = []
    for stage in tqdm(setting.stages, desc="augment"):
        program = Program(stage, setting)
        program.milliseconds()
        times = [program.milliseconds() for _ in range(setting.rounds)]
        counts = {"gflop": program.gflop, "gigabytes": program.gigabytes}
        rows.append({"stage": stage, **counts, "ms": statistics.median(times)})
    return {"setting": setting._asdict(), "rows": rows}
