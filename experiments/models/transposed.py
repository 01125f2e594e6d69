"""The transposed convolution, which is fast on CPUs, inside loops and under vmap."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from experiments import platform
from experiments.models import convolution
from experiments.models.windows import Window

NORMAL = nnx.initializers.normal(0.02)


def transpose(y: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The transposed convolution `[B, H, W, O]` of y `[B, H', W', K]`.

    What a convolution of the window, from images `[B, H, W, O]` to `[B, H', W', K]`, does to
    derivatives.

    Args:
      y: the input.
      kernel: `[h, w, O, K]`.
      window: of that convolution.
    """
    if platform() == "cpu":
        return convolution.transposed(y, kernel, window)
    sides = zip(
        window.image, window.kernel, window.output, window.strides, window.padding, strict=True
    )
    edges = [(k - 1 - low, n - 1 + low - s * (m - 1)) for n, k, m, s, (low, _) in sides]
    return lax.conv_general_dilated(
        y,
        jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
        (1, 1),
        edges,
        lhs_dilation=window.strides,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class ConvTranspose(nnx.Module):
    """A transposed convolution by square windows, torch's in its padding.

    Args:
      channels: of the input.
      filters: of the output.
      size: side of the window.
      stride: the pixels of the output for one of the input.
      padding: pixels of the output that are cut off at each edge.
      use_bias: whether a number is added to each filter.
      kernel_init: of the kernel, `[size, size, filters, channels]`.
      rngs: source of the initial parameters.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        use_bias: bool = False,
        kernel_init: nnx.Initializer = NORMAL,
        rngs: nnx.Rngs,
    ):
        shape = (size, size, filters, channels)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(filters)) if use_bias else None
        self._stride, self._padding = stride, padding

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, s (H - 1) + size - 2 padding, ..., filters]` of x `[B, H, W, channels]`."""
        window = self._window(x.shape[1:3])
        y = transpose(x, self.kernel[...], window)
        return y if self.bias is None else y + self.bias[...][None, None, None, :]

    def _window(self, sides: Sequence[int]) -> Window:
        size, cut = self.kernel.shape[0], self._padding
        height, width = (self._stride * (n - 1) + size - 2 * cut for n in sides)
        edges = ((cut, cut), (cut, cut))
        return Window((height, width), (size, size), (self._stride, self._stride), edges)
