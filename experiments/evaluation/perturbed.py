"""What trained networks answer under a perturbation, at all of its levels in one program."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import regjax as rj
from experiments.evaluation.perturbations import KINDS, View
from experiments.training import step as training
from experiments.training.step import Data, Task, TrainState

# From which all draws are derived: of the run's seeds they are independent.
ROOT = 20


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """One of `KINDS` with its levels and options.

    Attributes:
      text: the expression that it was read from, see perturbation_entries.py.
      kind: its name in `KINDS`.
      levels: at least one.
      options: of the kind's function.
      examples: how many of the test images, evenly spaced; 0 for all.
    """

    text: str
    kind: str
    levels: tuple[float, ...]
    options: tuple[tuple[str, Any], ...]
    examples: int

    @property
    def level(self) -> str:
        """What the levels are called."""
        return KINDS[self.kind].level

    @property
    def about(self) -> str:
        """The corruption that it is, or else its kind."""
        return dict(self.options).get("name", self.kind)

    def logits(self, view: View, batch: rj.Batch) -> jax.Array:
        """`[L, B, C]`, float32: the network's answers at all levels, in one loop on the device."""
        at = KINDS[self.kind].function(view, batch, **dict(self.options))
        levels = jnp.asarray(self.levels, jnp.float32)
        return jax.lax.map(lambda level: view.logits(at(level)), levels)


def perturbed(
    task: Task,
    perturbation: Perturbation,
    state: TrainState,
    image: jax.Array,
    label: jax.Array,
    index: jax.Array,
) -> jax.Array:
    """Logits `[L, B, C]`, float32, at every level, of stored images `[B, H, W, K]`.

    Args:
      task: what was trained.
      perturbation: of the images.
      state: of the trained run.
      image: uint8.
      label: `[B]`, the classes, which attacks look at.
      index: `[B]`, which example each is, for the draws.
    """
    pixels = image.astype(jnp.float32) / 255
    batch = rj.Batch(pixels, jax.nn.one_hot(label, task.classes), index)
    view = View(training.trained(task, state), task.prepare, task.dtype, jax.random.key(ROOT))
    return perturbation.logits(view, batch)


def perturbed_all(
    task: Task, perturbation: Perturbation, data: Data, state: TrainState, index: jax.Array
) -> jax.Array:
    """Logits `[L, K * B, C]` of the examples `index [K, B]`."""

    def of_batch(index: jax.Array) -> jax.Array:
        return perturbed(task, perturbation, state, data.image[index], data.label[index], index)

    logits = jax.lax.map(of_batch, index).swapaxes(0, 1)
    return logits.reshape(len(logits), -1, task.classes)
