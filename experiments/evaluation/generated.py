"""How near generated images come to real ones, in a number that needs no other network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import regjax as rj
from experiments.training.task import Examples, TrainState


@dataclasses.dataclass(frozen=True)
class ClassMeans:
    """The nearness of the mean generated image of each class to that of its real images.

    "nearness" is 1 minus the root of the mean square of their differences, over pixels in [0, 1]
    and the classes that occur: 1 where all are equal. It tells a generator that has learnt from one
    that has not, and knows nothing of single images.
    """

    classes: int

    def measure(self, task: Any, state: TrainState, examples: Examples) -> dict[str, jax.Array]:
        """A generated image beside each real one, of its label, both at a quarter of the size."""
        batch, label = task.batch(examples), examples.stored["label"]
        keys = rj.example_keys(jax.random.key(0), batch)
        fake = task.generator(state).drawn(keys, label)
        return {"real": _small((batch.image + 1) / 2), "fake": _small(fake), "label": label}

    def scores(self, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The nearness of class means, "nearness"."""
        label = np.asarray(rows["label"])
        differences = np.asarray(rows["real"], np.float64) - np.asarray(rows["fake"], np.float64)
        means = [differences[label == c].mean(0) for c in range(self.classes) if (label == c).any()]
        return {"nearness": 1 - float(np.sqrt(np.mean(np.square(means))))}


def _small(image: jax.Array) -> jax.Array:
    """The means of blocks of 4 x 4 pixels, or 2 x 2 where the side is no multiple of 4."""
    size, side, _, channels = image.shape
    each = 4 if side % 4 == 0 else 2
    blocks = image.reshape(size, side // each, each, side // each, each, channels)
    return jnp.mean(blocks, (2, 4))
