"""Layers that are fast on CPUs, inside loops and under vmap, and the native ones elsewhere."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from experiments import platform
from experiments.models import convolution
from experiments.models.windows import Window, shifted

Padding = str | Sequence[tuple[int, int]]
FEW_PIXELS = 16  # of a tile, each of which costs the maximum's derivative a slice
TOO_SMALL = "The images are too small for this network: one of its layers has no pixel left to see."
NHWC = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def convolve(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int] = (1, 1),
    padding: Padding = "SAME",
    *,
    dimension_numbers: Any = NHWC,
    feature_group_count: int = 1,
    precision: Any = None,
    **options: Any,
) -> jax.Array:
    """Convolve images [B, H, W, K] with a kernel [h, w, K / groups, O] to [B, H', W', O].

    The arguments are those of `lax.conv_general_dilated`, so it serves any `nnx.Conv` as its
    `conv_general_dilated`; what is not a plain 2D convolution on a CPU is handed over to it. The
    choice is made while tracing, by the platform that is compiled for: `lax.platform_dependent`
    would hold the residuals of both forms until the derivative is taken.
    """
    dilation = _only_dilation(options) if tuple(window_strides) == (1, 1) else None
    plain = feature_group_count == 1 or rhs.shape[2:] == (1, lhs.shape[-1])
    if platform() == "cpu" and dimension_numbers == NHWC and dilation and plain:
        return dilated(lhs, rhs, dilation, padding)
    special = any(np.any(np.asarray(o) != 1) for o in options.values() if o is not None)
    if platform() != "cpu" or dimension_numbers != NHWC or lhs.ndim != 4 or special:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
            **options,
        )
    window = _window(lhs, rhs.shape[:2], window_strides, padding)
    return convolution.convolve(lhs, rhs, window._replace(groups=feature_group_count))


def _only_dilation(options: dict[str, Any]) -> tuple[int, int] | None:
    """The kernel's dilation where it is above 1 and all else is plain."""
    special = {n for n, o in options.items() if o is not None and np.any(np.asarray(o) != 1)}
    return tuple(options["rhs_dilation"]) if special == {"rhs_dilation"} else None


def dilated(
    x: jax.Array, kernel: jax.Array, dilation: tuple[int, int], padding: Padding
) -> jax.Array:
    """A convolution of x [B, H, W, K] by a kernel with gaps: a product for each of its pixels.

    Those that see nothing but padding, as most do where the gaps are as large as the image, cost
    nothing. The kernel is [h, w, K, O], or [h, w, 1, K] by channel.
    """
    image = x.shape[1:3]
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel.shape[:2], dilation, strict=True))
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(image, spans, (1, 1), padding)
    sizes = [n + sum(p) - s + 1 for n, p, s in zip(image, padding, spans, strict=True)]
    if min(sizes) < 1:
        raise ValueError(TOO_SMALL)
    by_channel = kernel.shape[2] == 1 and x.shape[-1] > 1
    total = jnp.zeros((len(x), *sizes, kernel.shape[-1]), jnp.result_type(x, kernel))
    for at in np.ndindex(*kernel.shape[:2]):
        starts = [i * d - p[0] for i, d, p in zip(at, dilation, padding, strict=True)]
        sides = list(zip(starts, sizes, image, strict=True))
        if all(-size < start < n for start, size, n in sides):
            edges = [(-start, start + size - n, 0) for start, size, n in sides]
            seen = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
            weight = kernel[at]
            total = total + (seen * weight.reshape(1, 1, 1, -1) if by_channel else seen @ weight)
    return total


GLOROT = nnx.initializers.glorot_uniform()
Conv = functools.partial(nnx.Conv, conv_general_dilated=convolve, kernel_init=GLOROT)
Linear = functools.partial(nnx.Linear, kernel_init=GLOROT)
# The statistics stay float32, and what is normalised stays what it is: bfloat16 does not become
# float32 by meeting them. As in Flax, and other than in torch, the running variance is the biased
# one, of n values smaller by 1 / n (an eighth at two images of 2 x 2), and a variance is
# E[x^2] - E[x]^2 in float32, which is 0.2 off where the mean is a thousand deviations from 0. Both
# stay: an exact variance (`use_fast_variance=False`) rounds otherwise, so that no stored training
# could be repeated, and its second pass takes a compiled step of four convolutions of 64 channels
# at 128 images of 32 x 32, on a CPU, from 7.8 to 17.4 GB of memory traffic and to 1.07 the FLOPs.
BatchNorm = functools.partial(
    nnx.BatchNorm,
    momentum=0.99,
    epsilon=1e-3,
    promote_dtype=lambda arrays, **_: arrays,
)


RESIDUAL = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
# torch's own: uniform between -1 / sqrt(n) and 1 / sqrt(n), where n is the number of inputs.
TORCH = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def residual_conv(
    channels: int,
    filters: int,
    size: int,
    stride: int,
    rngs: nnx.Rngs,
    kernel_init: nnx.Initializer = RESIDUAL,
    groups: int = 1,
    dilation: int = 1,
) -> nnx.Conv:
    """A ResNet's convolution: no bias, equal padding, from N(0, sqrt(2 / (size^2 filters)))."""
    edge = (dilation * (size // 2),) * 2
    return Conv(
        channels,
        filters,
        (size, size),
        strides=stride,
        padding=(edge, edge),
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=kernel_init,
        rngs=rngs,
    )


def torch_linear(channels: int, classes: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer that starts as torch's: kernel and bias U(-1, 1) / sqrt(channels)."""
    edge = channels**-0.5

    def bias(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -edge, edge)

    return Linear(channels, classes, kernel_init=TORCH, bias_init=bias, rngs=rngs)


def residual_norm(filters: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """A ResNet's BatchNorm, whose averages move by a tenth."""
    return BatchNorm(filters, momentum=0.9, epsilon=1e-5, rngs=rngs)


def max_pool(
    x: jax.Array,
    window_shape: Sequence[int] = (2, 2),
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Maximum [B, H', W', K] of each window of x [B, H, W, K]; strides default to the window.

    Of equal pixels in a window, all share the gradient where windows do not overlap on a CPU.
    """
    window = _window(x, window_shape, strides or window_shape, padding)
    if platform() != "cpu":
        return nnx.max_pool(x, tuple(window_shape), tuple(strides or window_shape), padding)
    if window.kernel == window.strides and window.padding == ((0, 0), (0, 0)):
        few = math.prod(window.kernel) <= FEW_PIXELS
        return _largest(x, window) if few else jnp.max(_tiles(x, window), axis=(2, 4))
    return functools.reduce(_larger, shifted(x, window, fill=-math.inf))


def avg_pool(
    x: jax.Array,
    window_shape: Sequence[int] = (2, 2),
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
) -> jax.Array:
    """Mean [B, H', W', K] of each window of x [B, H, W, K], with the zeros of the padding."""
    window = _window(x, window_shape, strides or window_shape, padding)
    if platform() != "cpu":
        return nnx.avg_pool(x, tuple(window_shape), tuple(strides or window_shape), padding)
    if window.kernel == window.strides and window.padding == ((0, 0), (0, 0)):
        return jnp.mean(_tiles(x, window), axis=(2, 4))
    total = functools.reduce(jnp.add, shifted(x, window))
    return total / math.prod(window.kernel)


class Noise(nnx.Dropout):
    """Normal noise of deviation `rate` in training, in the place of dropout's masks."""

    def __call__(self, inputs: jax.Array, **_: Any) -> jax.Array:
        """[B, ...] of inputs [B, ...]."""
        if self.deterministic:
            return inputs
        return inputs + self.rate * jax.random.normal(self.rngs(), inputs.shape, inputs.dtype)


def _window(
    x: jax.Array, kernel: Sequence[int], strides: Sequence[int], padding: Padding
) -> Window:
    _, rows, columns, _ = x.shape
    image = (rows, columns)
    if min(*image, *kernel) < 1:
        raise ValueError(TOO_SMALL)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(image, kernel, strides, padding)
    (top, bottom), (left, right) = padding
    height, width = kernel
    down, across = strides
    edges = ((top, bottom), (left, right))
    window = Window(image, (height, width), (down, across), edges)
    if min(window.output) < 1:
        raise ValueError(TOO_SMALL)
    return window


def _tiles(x: jax.Array, window: Window) -> jax.Array:
    """The whole windows of x [B, H, W, K] side by side: [B, H', h, W', w, K]."""
    (height, width), (h, w) = window.output, window.kernel
    x = x[:, : height * h, : width * w]
    return x.reshape(len(x), height, h, width, w, x.shape[-1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: jax.Array, window: Window) -> jax.Array:
    """The largest pixel [B, H', W', K] of each tile."""
    return jnp.max(_tiles(x, window), axis=(2, 4))


@_largest.defjvp
def _largest_jvp(
    window: Window, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # That of jnp.max, which stores for the whole image, as numbers, which pixels are largest, to
    # count them: here these are counted from slices. They are chosen in tiles, whose transpose is
    # elementwise, where that of slices is padding.
    (x,), (direction,) = primals, tangents
    largest = _largest(x, window)
    counts = ((pixel == largest).astype(x.dtype) for pixel in shifted(x, window))
    is_largest = _tiles(x, window) == largest[:, :, None, :, None]
    chosen = jnp.where(is_largest, _tiles(direction, window), 0)
    return largest, jnp.sum(chosen, axis=(2, 4)) / functools.reduce(jnp.add, counts)


def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    # Of equal values the first takes the whole gradient, as in the native pooling; NaN is kept.
    return jnp.where((a >= b) | jnp.isnan(a), a, b)
