"""`python -m experiments.classify` with one more network, "tiny", which compiles in little time."""

import sys
from pathlib import Path

import jax
from flax import nnx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from experiments import classify, comparison, models  # noqa: E402


class Tiny(nnx.Module):
    """One hidden layer, and what is trained with a batch's own statistics."""

    def __init__(self, image_shape: tuple[int, ...], classes: int, *, rngs: nnx.Rngs) -> None:
        height, width, channels = image_shape
        self.hidden = nnx.Linear(height * width * channels, 8, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(nnx.relu(self.norm(self.hidden(x.reshape(len(x), -1)))))


if __name__ == "__main__":
    models.MODELS["tiny"] = Tiny
    comparison.door(classify.CLASSIFICATION)
