"""Convolutions in the one form that XLA's CPU compiler is fast at: NHWC x HWIO -> NHWC.

They are products of matrices, which want many columns, and a column is a filter. Where there are
few filters, neighbouring pixels of a row become filters too: a wider kernel holds a copy of each
filter for each of them, moved by a pixel, and its window moves on by as many. That is some more
arithmetic, for fewer patches and fuller registers.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.models.windows import Window

# The batch is cut into chunks of this many images where it is summed over: shorter rows stay in
# the cache, and the chunks run in parallel.
CHUNK = 8
# Columns that are worth their arithmetic, as measured: with few channels most of the work is making
# patches, with many only what is all but a matrix times a vector gains.
COLUMNS, OF_FEW_CHANNELS, OF_MANY_CHANNELS = 32, 64, 4
FEW_CHANNELS, MANY_CHANNELS = 4, 16
MOST_PIXELS = 4  # in the map to the kernel


def output(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The convolution of x [B, H, W, K] with a kernel [h, w, K, O]."""
    if window.strides == (1, 1):
        return _in_rows(x, kernel, window.output[1], window.padding)
    return _convolution(x, kernel, window.padding, window_strides=window.strides)


def image(y: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The transpose of `output` in x, of y [B, H', W', O]."""
    sides = zip(
        window.image, window.kernel, window.output, window.strides, window.padding, strict=True
    )
    edges = tuple((k - 1 - low, n - 1 + low - s * (m - 1)) for n, k, m, s, (low, _) in sides)
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    if window.strides == (1, 1):
        return _in_rows(y, turned, window.image[1], edges)
    if _has_phases(window) and kernel.shape[2] > FEW_CHANNELS:
        return _in_phases(y, kernel.swapaxes(2, 3), window)
    return _convolution(y, turned, edges, lhs_dilation=window.strides)


def kernel(x: jax.Array, y: jax.Array, window: Window) -> jax.Array:
    """The transpose of `output` in the kernel, of x [B, H, W, K] and y [B, H', W', O]."""
    sides = zip(
        window.image, window.kernel, window.output, window.strides, window.padding, strict=True
    )
    edges = tuple((low, k + s * (m - 1) - n - low) for n, k, m, s, (low, _) in sides)
    filters = y.shape[-1]
    width = window.output[1]
    pixels = min(MOST_PIXELS, _pixels_at_once(filters, COLUMNS, width))
    down, right = window.strides
    # Two reshapes: with explicit shardings one may not split an axis and join others.
    y = y.reshape(*y.shape[:2], width // pixels, pixels, filters)
    y = y.reshape(*y.shape[:3], pixels * filters)

    def of_chunk(start: int) -> jax.Array:
        chunk = slice(start, start + CHUNK)
        return _convolution(
            x[chunk].transpose(3, 1, 2, 0),
            y[chunk].transpose(1, 2, 0, 3),
            edges,
            rhs_dilation=(down, right * pixels),
            preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
        )

    total = functools.reduce(jnp.add, map(of_chunk, range(0, len(x), CHUNK)))
    narrow = _narrowed(total.transpose(1, 2, 0, 3), window.kernel[1], right, pixels)
    return narrow.astype(x.dtype)


def _convolution(
    x: jax.Array, kernel: jax.Array, padding: tuple[tuple[int, int], ...], **options: Any
) -> jax.Array:
    options = {"window_strides": (1, 1), **options}
    if "lhs_dilation" not in options and min(map(min, padding)) < 0:
        # A crop on one side and padding on the other: jaxlib 0.10 reads what is not the image's,
        # but for images that are dilated.
        edges = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
        x, padding = lax.pad(x, jnp.zeros((), x.dtype), edges), ((0, 0), (0, 0))
    return lax.conv_general_dilated(
        x, kernel, padding=padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def _in_rows(
    x: jax.Array, kernel: jax.Array, width: int, padding: tuple[tuple[int, int], ...]
) -> jax.Array:
    """A convolution whose window moves by one pixel, to rows of `width` pixels."""
    channels, filters = kernel.shape[2:]
    columns = COLUMNS
    if channels <= FEW_CHANNELS:
        columns = OF_FEW_CHANNELS
    elif channels > MANY_CHANNELS:
        columns = OF_MANY_CHANNELS
    pixels = _pixels_at_once(filters, columns, width)
    wide = _widened(kernel, pixels)
    out = _convolution(x, wide, padding, window_strides=(1, pixels))
    out = out.reshape(*out.shape[:3], pixels, filters)
    return out.reshape(*out.shape[:2], width, filters)


def _has_phases(window: Window) -> bool:
    """Whether the image is whole strides, and some tap of the kernel sees each pixel of one."""
    sides = zip(window.image, window.kernel, window.strides, strict=True)
    return all(n % s == 0 and k >= s for n, k, s in sides)


def _in_phases(y: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """`image` of a kernel [h, w, O, K], without the products of zeros between y's pixels.

    A pixel sees every stride-th tap, from its phase's first. The phases of a row are filters of one
    convolution; those of a column are convolutions of their own.
    """
    down, right = window.strides
    height, width = window.image[0] // down, window.image[1] // right
    below, beside = height - window.output[0], width - window.output[1]
    vertical, horizontal = map(_phases, window.kernel, window.strides, window.padding)
    wide, leftmost, rightmost = _as_filters(horizontal, kernel)
    across = (-leftmost, beside + rightmost)
    rows = [
        _in_rows(y, jnp.flip(wide[tap::down], 0), width, ((-first, below + last), across))
        for tap, first, last in vertical
    ]
    out = jnp.stack(rows, 2)
    # One by one, and no `len`: axes may be sharded explicitly, and the batch may be a symbol.
    out = out.reshape(out.shape[0], window.image[0], *out.shape[3:])
    out = out.reshape(*out.shape[:3], right, kernel.shape[3])
    return out.reshape(*out.shape[:2], window.image[1], kernel.shape[3])


def _phases(size: int, stride: int, padding: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Of each of `stride` pixels: its first tap, and the first and the last of y that it sees."""
    phases = []
    for pixel in range(stride):
        last, tap = divmod(pixel + padding[0], stride)
        phases.append((tap, last + 1 - len(range(tap, size, stride)), last))
    return phases


def _as_filters(
    phases: list[tuple[int, int, int]], kernel: jax.Array
) -> tuple[jax.Array, int, int]:
    """The taps [h, w', O, phases * K] of a row, and the first and the last of y that they see."""
    leftmost, rightmost = min(first for _, first, _ in phases), max(last for *_, last in phases)
    zero, none = jnp.zeros((), kernel.dtype), (0, 0, 0)
    taps = [jnp.flip(kernel[:, tap :: len(phases)], 1) for tap, *_ in phases]
    edges = [(none, (a - leftmost, rightmost - b, 0), none, none) for _, a, b in phases]
    wide = [lax.pad(part, zero, each) for part, each in zip(taps, edges, strict=True)]
    return jnp.concatenate(wide, -1), leftmost, rightmost


def _pixels_at_once(filters: int, columns: int, width: int) -> int:
    """How many pixels of a row become filters, for up to so many columns."""
    pixels = 1
    while 2 * pixels * filters <= columns and width % (2 * pixels) == 0:
        pixels *= 2
    return pixels


def _widened(kernel: jax.Array, pixels: int) -> jax.Array:
    """The kernel [h, w, K, O] for so many pixels: [h, w + pixels - 1, K, pixels * O]."""
    none, zero = (0, 0, 0), jnp.zeros((), kernel.dtype)
    edges = [(none, (i, pixels - 1 - i, 0), none, none) for i in range(pixels)]
    return jnp.concatenate([lax.pad(kernel, zero, each) for each in edges], -1)


def _narrowed(wide: jax.Array, width: int, step: int, pixels: int) -> jax.Array:
    """The transpose of `_widened` where the kernel moves by `step` from pixel to pixel."""
    parts = jnp.split(wide, pixels, -1)
    return functools.reduce(
        jnp.add, (part[:, i * step : i * step + width] for i, part in enumerate(parts))
    )
