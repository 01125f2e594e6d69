"""Two players that compile in little time, and a door that trains them on the digits."""

import sys
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import toys  # noqa: E402

from configs import common  # noqa: E402
from experiments import comparison, generate  # noqa: E402
from experiments.data import sources  # noqa: E402
from experiments.models import MODELS, generators  # noqa: E402


class Maker(nnx.Module):
    """A linear generator with BatchNorm."""

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs) -> None:
        self.shape = sizes.image_shape
        side, _, channels = self.shape
        self.hidden = nnx.Linear(sizes.inputs, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.last = nnx.Linear(width, side * side * channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = nnx.relu(self.norm(self.hidden(x)))
        return jax.numpy.tanh(self.last(h)).reshape(len(x), *self.shape)


class Judge(nnx.Module):
    """A critic of one hidden layer with BatchNorm."""

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs) -> None:
        side, _, channels = sizes.image_shape
        self.hidden = nnx.Linear(side * side * (channels + sizes.maps), width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.last = nnx.Linear(width, 1 + sizes.outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.leaky_relu(self.norm(self.hidden(x.reshape(len(x), -1)))))


PAIR = generators.Pair(Maker, Judge, 8)


def bring(monkeypatch: Any) -> None:
    """Brings the pair, a classifier and a data set that compile in little time, by name."""
    monkeypatch.setitem(generators.PAIRS, "tiny", PAIR)
    monkeypatch.setitem(MODELS, "tiny", toys.Tiny)
    monkeypatch.setitem(sources.DATASETS, "toys", lambda *_: toys.pictures())


def config(loss: str, model: str, **changes: Any) -> ConfigDict:
    """Three epochs of two steps, on that data set."""
    small = common.base()
    small.dataset, small.model, small.selection = "toys", model, "test"
    small.batch_size, small.epochs, small.runs_at_once = 18, 3, 1
    small.losses = ConfigDict({"toy": loss})
    for name, value in changes.items():
        setattr(small, name, value)
    return small


if __name__ == "__main__":
    generators.PAIRS["tiny"] = PAIR  # type: ignore[index]
    comparison.door(generate.GENERATION)
