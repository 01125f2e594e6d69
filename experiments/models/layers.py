"""Convolution and pooling that are fast on CPUs, in loops and under vmap, and native elsewhere."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

Padding = str | Sequence[tuple[int, int]]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    *,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """Convolve images x [B, H, W, K] with a kernel [h, w, K / groups, O] to [B, H', W', O]."""
    native = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=padding,
        feature_group_count=feature_group_count,
        **{"dimension_numbers": ("NHWC", "HWIO", "NHWC"), **options},
    )
    if jax.default_backend() != "cpu":
        return native(x, kernel)
    pads = _pads(x, kernel.shape[:2], strides, padding)
    patches = jnp.stack(_windows(x, kernel.shape[:2], strides, pads, 0.0), -2)
    h, w, k, out = kernel.shape
    if feature_group_count == 1:
        flat = patches.reshape(*patches.shape[:3], h * w * k)
        return flat @ kernel.reshape(h * w * k, out)
    groups = feature_group_count
    patches = patches.reshape(*patches.shape[:4], groups, k)
    kernel = kernel.reshape(h * w, k, groups, out // groups)
    y = jnp.einsum("bijngk,nkgo->bijgo", patches, kernel)
    return y.reshape(*y.shape[:3], out)


Conv = functools.partial(
    nnx.Conv,
    conv_general_dilated=convolve,
    kernel_init=nnx.initializers.glorot_uniform(),
)
Linear = functools.partial(nnx.Linear, kernel_init=nnx.initializers.glorot_uniform())
BatchNorm = functools.partial(nnx.BatchNorm, momentum=0.99, epsilon=1e-3)


def max_pool(
    x: jax.Array,
    window: tuple[int, int] = (2, 2),
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Maximum of each window of x [B, H, W, K]; the strides default to the window."""
    strides = strides or window
    pads = _pads(x, window, strides, padding)
    lowest = -jnp.inf
    return functools.reduce(_larger, _windows(x, window, strides, pads, lowest))


def avg_pool(
    x: jax.Array,
    window: tuple[int, int] = (2, 2),
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Mean of each window of x [B, H, W, K], padding counted; the strides default to the window."""
    strides = strides or window
    pads = _pads(x, window, strides, padding)
    return sum(_windows(x, window, strides, pads, 0.0)) / math.prod(window)


def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    # Of equal values the first takes the whole gradient, as in the native pooling; NaN is kept.
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def _pads(
    x: jax.Array, window: Sequence[int], strides: Sequence[int], padding: Padding
) -> Sequence[tuple[int, int]]:
    if isinstance(padding, str):
        return lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
    return padding


def _windows(
    x: jax.Array,
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    fill: float,
) -> list[jax.Array]:
    """The pixels at each offset of the window, row by row: h * w arrays [B, H', W', K]."""
    zero = (0, 0, 0)
    x = lax.pad(x, jnp.asarray(fill, x.dtype), [zero, *((a, b, 0) for a, b in pads), zero])
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:3], window, strides, strict=True)]
    return [
        x[
            :,
            i : i + strides[0] * (size[0] - 1) + 1 : strides[0],
            j : j + strides[1] * (size[1] - 1) + 1 : strides[1],
        ]
        for i in range(window[0])
        for j in range(window[1])
    ]
