"""Networks with parameters by formulas, whose logits other programs can compute as well."""

import jax
import numpy as np
from flax import nnx

from experiments import models


def values(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Parameters of a layer in float64: n counts them in row-major order.

    Args:
      kind: kernel [h, w, K, O] or [K, O]; scale, bias, mean or var [O].
      shape: of the parameters.
    """
    squares = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) ** 2
    return {
        "kernel": lambda n2: 2 * np.sin(n2) / np.sqrt(np.prod(shape[:-1])),
        "scale": lambda n2: 1 + np.sin(n2 + 1) / 4,
        "bias": lambda n2: np.cos(n2) / 4,
        "mean": lambda n2: np.sin(2 * n2 + 1) / 4,
        "var": lambda n2: 1 + np.cos(3 * n2) / 2,
    }[kind](squares)


def logits(text: str, image_shape: tuple[int, int, int], classes: int) -> np.ndarray:
    """Logits [C] of the image cos(n^2) [H, W, K] in evaluation, in float64."""
    made = nnx.eval_shape(lambda: models.create(text, image_shape, classes, nnx.Rngs(0)))
    made.eval()
    graph, state = nnx.split(made)

    def filled(path, array):
        return values(jax.tree_util.keystr(path[-1:], simple=True), array.shape)

    nnx.replace_by_pure_dict(state, jax.tree.map_with_path(filled, nnx.to_pure_dict(state)))
    squares = np.arange(np.prod(image_shape), dtype=np.float64).reshape(1, *image_shape) ** 2
    with jax.enable_x64(True):
        answer = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, np.cos(squares))
    return np.asarray(answer)[0]
