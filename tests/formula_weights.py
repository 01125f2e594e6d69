"""Weights and images by a formula, for networks whose logits torch has computed."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def waves(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Values in -1 to 1, other ones for every number, without a pattern that a kernel could see."""
    i = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(0.37 * (number + 1) + 0.9 * i * i).reshape(shape)


def image(count: int, shape: tuple[int, int, int]) -> jax.Array:
    """So many images [count, H, W, K]."""
    return jnp.asarray(waves(0, (count, *shape)), jnp.float32)


def fill(model: nnx.Module) -> None:
    """Gives all parameters and statistics of a network values that depend on nothing but order."""
    paths = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    for number, (path, variable) in enumerate(sorted(paths, key=lambda each: str(each[0]))):
        value = _value(str(path[-1]), waves(number, variable.shape))
        variable[...] = jnp.asarray(value, jnp.float32)


def _value(name: str, wave: np.ndarray) -> np.ndarray:
    if name == "kernel":
        return wave * (4 / np.prod(wave.shape[:-1])) ** 0.5
    return {"scale": 1 + 0.2 * wave, "var": 1 + 0.3 * wave}.get(name, 0.1 * wave)
