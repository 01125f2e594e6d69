"""Depthwise convolutions on CPUs, as shifted products: each channel is filtered by itself.

XLA's own is slow on CPUs, in loops above all, and as blocks of channels (`blocks.py`) most of the
work would be zeros. Here each of the window's offsets is one elementwise product, and all of them
one pass over the image.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from experiments.models.windows import Window, shifted

# Where the sum over pixels is taken by hand, so many terms are added in one pass.
TERMS = 8


def output(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The output [B, H', W', K] of images x [B, H, W, K] and a kernel [h, w, 1, K]."""
    return _summed(shifted(_wide(x), window), kernel).astype(x.dtype)


def image(y: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The images [B, H, W, K] of an output y [B, H', W', K] and a kernel [h, w, 1, K]."""
    y = _wide(y)
    sides = zip(
        window.image, window.kernel, window.output, window.strides, window.padding, strict=True
    )
    edges = [(k - 1 - low, n - 1 + low - s * (m - 1), s - 1) for n, k, m, s, (low, _) in sides]
    y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    spread = Window(y.shape[1:3], window.kernel, (1, 1), ((0, 0), (0, 0)))
    return _summed(shifted(y, spread), jnp.flip(kernel, (0, 1))).astype(kernel.dtype)


def kernel(x: jax.Array, y: jax.Array, window: Window) -> jax.Array:
    """The kernel [h, w, 1, K] of images x [B, H, W, K] and an output y [B, H', W', K]."""
    wide = _wide(y)
    sums = [_over_pixels(pixels * wide) for pixels in shifted(_wide(x), window)]
    return jnp.stack(sums).reshape(*window.kernel, 1, -1).astype(x.dtype)


def _wide(x: jax.Array) -> jax.Array:
    """At least float32, in which sums of half precision are taken."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _summed(pixels: list[jax.Array], kernel: jax.Array) -> jax.Array:
    weights = _wide(kernel).reshape(len(pixels), 1, 1, 1, -1)
    return functools.reduce(jnp.add, map(jnp.multiply, pixels, weights))


def _over_pixels(x: jax.Array) -> jax.Array:
    return jnp.sum(x, (0, 1, 2))


FORMS: dict[str, Callable[[jax.Array, jax.Array, Window], jax.Array]] = {
    "convolution_output": output,
    "convolution_image": image,
    "convolution_kernel": kernel,
}
