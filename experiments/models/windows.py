"""What a 2D convolution or a pooling sees: its window over images [B, H, W, K]."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Window(NamedTuple):
    """What a convolution is besides its two factors; all pairs are (vertical, horizontal).

    The channels of image and output are in `groups`, of which each sees its like only.
    """

    image: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    groups: int = 1

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (
            (n + sum(p) - k) // s + 1
            for n, k, s, p in zip(self.image, self.kernel, self.strides, self.padding, strict=True)
        )
        return height, width


def shifted(x: jax.Array, window: Window, fill: float = 0.0) -> list[jax.Array]:
    """The pixels of x [B, H, W, K] at each offset of the window: h * w arrays [B, H', W', K]."""
    none = (0, 0, 0)
    edges = [(low, high, 0) for low, high in window.padding]
    x = lax.pad(x, jnp.asarray(fill, x.dtype), [none, *edges, none])
    rows, columns = (s * (n - 1) + 1 for s, n in zip(window.strides, window.output, strict=True))
    down, right = window.strides
    return [
        x[:, i : i + rows : down, j : j + columns : right]
        for i in range(window.kernel[0])
        for j in range(window.kernel[1])
    ]
