"""Depthwise convolutions on CPUs, as shifted products: each channel is filtered by itself.

XLA's own is slow on CPUs, in loops above all, and as blocks of channels (`blocks.py`) most of the
work would be zeros. Here each of the window's offsets is one elementwise product. What bounds these
is memory: a few images are taken at a time, which stay in the cache.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from experiments.models.windows import Window, shifted

# So many numbers are taken at a time, or those of one image.
NUMBERS = 2**18

Chunk = Callable[[jax.Array], jax.Array]


def output(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The output [B, H', W', K] of images x [B, H, W, K] and a kernel [h, w, 1, K]."""
    return _joined(lambda x: _summed(shifted(x, window), kernel), x)


def image(y: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The images [B, H, W, K] of an output y [B, H', W', K] and a kernel [h, w, 1, K]."""
    sides = zip(
        window.image, window.kernel, window.output, window.strides, window.padding, strict=True
    )
    edges = [(k - 1 - low, n - 1 + low - s * (m - 1), s - 1) for n, k, m, s, (low, _) in sides]
    turned = jnp.flip(kernel, (0, 1))

    def of_chunk(y: jax.Array) -> jax.Array:
        y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        spread = Window((y.shape[1], y.shape[2]), window.kernel, (1, 1), ((0, 0), (0, 0)))
        return _summed(shifted(y, spread), turned)

    return _joined(of_chunk, y)


def kernel(x: jax.Array, y: jax.Array, window: Window) -> jax.Array:
    """The kernel [h, w, 1, K] of images x [B, H, W, K] and an output y [B, H', W', K]."""
    x, y = _split(x, y)

    def add(total: list[jax.Array], chunk: tuple[jax.Array, jax.Array]) -> tuple[list, None]:
        pixels, wide = shifted(_wide(chunk[0]), window), _wide(chunk[1])
        return [t + each * wide for t, each in zip(total, pixels, strict=True)], None

    start = jnp.zeros_like(_wide(y[0]))
    total, _ = lax.scan(add, [start] * math.prod(window.kernel), (x, y))
    sums = jnp.stack([jnp.sum(each, (0, 1, 2)) for each in total])
    return sums.reshape(*window.kernel, 1, -1).astype(x.dtype)


def _wide(x: jax.Array) -> jax.Array:
    """At least float32, in which sums of half precision are taken."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _summed(pixels: list[jax.Array], kernel: jax.Array) -> jax.Array:
    weights = _wide(kernel).reshape(len(pixels), 1, 1, 1, -1)
    products = (_wide(each) * weight for each, weight in zip(pixels, weights, strict=True))
    return functools.reduce(jnp.add, products).astype(pixels[0].dtype)


def _split(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Chunks [B / n, n, ...] of the images of arrays [B, ...], of the most n that fits."""
    images = len(arrays[0])
    fits = max(1, NUMBERS * images // max(1, max(each.size for each in arrays)))
    most = max(n for n in range(1, min(fits, images) + 1) if images % n == 0)
    return tuple(each.reshape(-1, most, *each.shape[1:]) for each in arrays)


def _joined(of_chunk: Chunk, x: jax.Array) -> jax.Array:
    (chunks,) = _split(x)
    result = lax.map(of_chunk, chunks)
    return result.reshape(-1, *result.shape[2:])


FORMS: dict[str, Callable[[jax.Array, jax.Array, Window], jax.Array]] = {
    "convolution_output": output,
    "convolution_image": image,
    "convolution_kernel": kernel,
}
