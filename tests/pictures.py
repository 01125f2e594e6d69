"""Pictures to corrupt: shapes, shades and textures, black and white, in 255ths."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from regjax import corruptions

HEIGHT, WIDTH = 24, 20
SEVERITIES = (1, 2, 3, 4, 5)

# A layer of water, 12 x 16 pixels, smoothed noise of which what is below 175 is cut off.
LIQUID = """
    0000d8e5bb00000000000000c7bdc8de 00b0cddabe000000000000b1cfc8c8d1
    00b6bbc00000000000000000bab9b3b4 b4c8c7c0000000000000000000000000
    b0d0d7ca0000000000000000000000b0 00c1cabd000000000000000000000000
    00b2b9b5000000000000000000000000 b7c2c3c6cfc400000000000000000000
    d5d7d1d7e5d800000000000000000000 b8c3c5cfdacf00000000000000000000
    000000c0c4b900000000000000000000 0000b5cdc9b4000000000000b3000000
"""


@functools.cache
def pictures(count: int = 4) -> np.ndarray:
    """`[count, 24, 20, 3]` uint8: a gradient, a disk, stripes, noise; black, white and grey."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    colours = rng.uniform(0, 255, (count, 3, 3))
    disk = ((row - 12) ** 2 + (column - 8) ** 2 < 40)[..., None]
    stripes = (column % 6 < 3)[..., None] & (row > 16)[..., None]
    image = colours[:, :1, None] * (row / HEIGHT)[None, ..., None] + 20
    image = np.where(disk, colours[:, 1, None, None], image)
    image = np.where(stripes, colours[:, 2, None, None], image)
    image = image + rng.normal(0, 6, image.shape)
    image[:, :3, :5], image[:, :3, 5:10], image[:, :3, 10:15] = 0, 255, 128
    return image.clip(0, 255).round().astype(np.uint8)


def pixels() -> jax.Array:
    """The pictures in [0, 1]."""
    return jnp.asarray(pictures(), jnp.float32) / 255


def keys(seed: int = 0) -> jax.Array:
    """One for each of the pictures."""
    return jax.random.split(jax.random.key(seed), 4)


@functools.cache
def compiled(name: str) -> Callable[..., jax.Array]:
    """`corrupt(image, severity, keys)` of one corruption, under jit and not rounded to 255ths."""
    return jax.jit(functools.partial(corruptions.corrupt, name, quantised=False))


def corrupted(name: str, severity: int) -> np.ndarray:
    """The pictures, corrupted, in [0, 1]."""
    return np.asarray(compiled(name)(pixels(), severity, keys()))


def from_hex(text: str) -> np.ndarray:
    """The rows of an uint8 array, as in `LIQUID`."""
    return np.array([list(bytes.fromhex(row)) for row in text.split()], np.uint8)
