"""A task with a given network and nothing to train, for tests of evaluations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import regjax as rj
from experiments.data.preprocessing import normalise


class Examples(NamedTuple):
    """Stored examples as evaluations are given them."""

    stored: Any
    number: jax.Array
    weight: jax.Array | None = None
    unlabeled: Any = None


def linear(params: Any, image: jax.Array) -> jax.Array:
    """Logits `[B, C]` of images, by one matrix."""
    return image.reshape(len(image), -1) @ params.astype(image.dtype)


@dataclasses.dataclass(frozen=True)
class Task:
    """Of a function of parameters, which are the state, and images.

    Attributes:
      function: the network.
      classes: C.
      mean: of the normalisation.
      std: likewise.
      dtype: what the network computes in.
    """

    function: Callable[[Any, jax.Array], jax.Array] = linear
    classes: int = 4
    mean: float | tuple[float, ...] = 0.4
    std: float | tuple[float, ...] = 0.3
    dtype: Any = jnp.float32

    @functools.cached_property
    def prepare(self) -> Callable[..., jax.Array]:
        """The normalisation."""
        return functools.partial(normalise, mean=self.mean, std=self.std)

    def batch(self, examples: Examples) -> rj.Batch:
        """Normalised images and one-hot labels."""
        image = self.prepare(examples.stored["image"]).astype(self.dtype)
        label = jax.nn.one_hot(examples.stored["label"], self.classes)
        return rj.Batch(image, label, examples.number, examples.weight)

    def network(self, state: Any, part: str = "") -> rj.Forward:
        """The network with its parameters."""
        assert not part
        return rj.from_function(self.function, state)
