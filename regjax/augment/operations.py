"""The operations of AutoAugment and RandAugment, in one form that serves all of them.

Under `vmap` a choice among fourteen functions computes all fourteen. Here an operation is a row of
numbers instead, and every image goes the same way: one affine map, one blend, one curve of 256
levels by channel, each of which its row may leave without effect.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

ONE = 1 << 16  # a pixel, in the fixed point of affine maps, which is Pillow's
BLACK, MEAN, GREY, SMOOTH = range(4)  # what an image is blended with
GIVEN, AUTOCONTRAST, EQUALIZE = range(3)  # how a curve comes about


class Operation(NamedTuple):
    """What an image goes through; the defaults leave it as it is. Also a table of such rows.

    Attributes:
      place: six int32, `(a, b, c, d, e, f)`: the pixel at column x and row y comes from column
        `a x + b y + c` and row `d x + e y + f`, rounded down, in 65536ths of a pixel.
      along: two int32, 1 where it is interpolated along columns or rows, by cubics.
      towards: `[]` int32, what the image is blended with: black, its mean grey, its grey, a smooth.
      factor: `[]` float32, 0 for that, 1 for the image, beyond 1 away from it.
      mask: `[]` int32, which bits of a level are kept.
      threshold: `[]` float32, from which level on levels are inverted.
      stretch: `[]` int32, whether the curve is by mask and threshold, or autocontrast, or equalize.
    """

    place: Any = (ONE, 0, ONE // 2, 0, ONE, ONE // 2)
    along: Any = (0, 0)
    towards: Any = BLACK
    factor: Any = 1.0
    mask: Any = 255
    threshold: Any = 256.0
    stretch: Any = GIVEN


def apply(levels: jax.Array, operation: Operation, fill: int, cubic: bool) -> jax.Array:
    """An image after one operation.

    Bit by bit what Pillow makes of it where that computes with whole numbers: identity, shears,
    translations and rotations by nearest pixels, posterize, solarize, invert and equalize. Within
    one level of 255, and mostly equal, where it does not: brightness, color, contrast, sharpness,
    autocontrast and shears by cubics. What is a whole level when computed exactly is that level
    here, whatever the device, where Pillow's floating point may fall just below it and so to the
    next lower one.

    Args:
      levels: `[H, W, K]` int32, 0 to 255, K 1 or 3.
      operation: a row.
      fill: the level of pixels from outside; static.
      cubic: whether `operation.along` is looked at; static.

    Returns:
      `[H, W, K]` int32, 0 to 255.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.arange(0, 256, 85, dtype=jnp.int32).reshape(2, 2, 1)
      >>> apply(image, Operation(threshold=jnp.array(128.0)), 0, False).ravel().tolist()
      [0, 85, 85, 0]
    """
    operation = jax.tree.map(jnp.asarray, operation)
    levels = _moved(levels, operation, fill, cubic)
    return _curved(_blended(levels, operation), operation)


def _moved(levels: jax.Array, operation: Operation, fill: int, cubic: bool) -> jax.Array:
    height, width, channels = levels.shape
    row, column = jnp.arange(height, dtype=jnp.int32), jnp.arange(width, dtype=jnp.int32)
    place = operation.place
    x = place[0] * column[None, :] + place[1] * row[:, None] + place[2]
    y = place[3] * column[None, :] + place[4] * row[:, None] + place[5]
    # Pillow has no fixed point here, and so places just on the border on its one side.
    near = ONE // 128 if cubic else 0
    known = _within(x + near * operation.along[0], width)
    known &= _within(y + near * operation.along[1], height)

    def at(x: jax.Array, y: jax.Array) -> jax.Array:
        index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
        return levels.reshape(-1, channels).at[index].get(mode="promise_in_bounds")

    if not cubic:
        moved = at(x >> 16, y >> 16)
    else:
        (right, down), half = operation.along, ONE // 2
        x, y = x - half * right, y - half * down
        between = ((x % ONE) * right + (y % ONE) * down).astype(jnp.float32)[..., None] / ONE
        taps = [at((x >> 16) + i * right, (y >> 16) + i * down) for i in (-1, 0, 1, 2)]
        moved = _whole(_cubic(taps, between))
    return jnp.where(known[..., None], moved, fill)


def _within(place: jax.Array, length: int) -> jax.Array:
    return (place >= 0) & (place < length * ONE)


def _cubic(taps: list[jax.Array], t: jax.Array) -> jax.Array:
    """Between the second and the third of four taps, `t` from the second, with Keys's a = -1."""
    before, first, second, after = (tap.astype(jnp.float32) for tap in taps)
    slope, next_slope, step = second - before, after - first, second - first
    bend, twist = 3 * step - 2 * slope - next_slope, slope + next_slope - 2 * step
    return first + t * (slope + t * (bend + t * twist))


def _whole(value: jax.Array) -> jax.Array:
    """The level below, but for what rounding may have taken from a whole one."""
    return jnp.floor(jnp.clip(value, 0, 255) + 1e-3).astype(jnp.int32)


def _blended(levels: jax.Array, operation: Operation) -> jax.Array:
    pixels = levels.shape[0] * levels.shape[1]
    grey = _grey(levels)
    mean = (2 * jnp.sum(grey, dtype=jnp.int32) + pixels) // (2 * pixels)
    cases = jnp.zeros_like(mean), mean, grey, _smooth(levels)
    target = jax.lax.select_n(
        operation.towards, *(jnp.broadcast_to(case, levels.shape) for case in cases)
    )
    return _whole(target + operation.factor * (levels - target))


def _grey(levels: jax.Array) -> jax.Array:
    """Luma by ITU-R 601, `[H, W, 1]`."""
    if levels.shape[-1] == 1:
        return levels
    weights = jnp.array([[[19595, 38470, 7471]]], jnp.int32)
    return (jnp.sum(levels * weights, -1, keepdims=True, dtype=jnp.int32) + ONE // 2) >> 16


def _smooth(levels: jax.Array) -> jax.Array:
    """Means over 3 x 3 pixels with weight 5 in the middle; those at the border stay."""
    padded = jnp.pad(levels, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    row, column = (jnp.arange(length) % (length - 1) > 0 for length in levels.shape[:2])
    inner = row[:, None, None] & column[None, :, None]
    mean = jnp.floor((around + 4 * levels) / 13 + 0.5).astype(jnp.int32)
    return jnp.where(inner, mean, levels)


def _curved(levels: jax.Array, operation: Operation) -> jax.Array:
    channels = levels.shape[-1]
    # The histogram and the look-up share these, for which XLA keeps them.
    bins = (levels + 256 * jnp.arange(channels, dtype=jnp.int32)[None, None]).ravel()
    counts = jnp.zeros(256 * channels, jnp.int32).at[bins].add(1, mode="promise_in_bounds")
    counts, level = counts.reshape(channels, 256), jnp.arange(256, dtype=jnp.int32)[None]
    kept = level & operation.mask
    given = jnp.where(kept >= operation.threshold, 255 - kept, kept)
    cases = given, _autocontrast(counts, level), _equalize(counts, level)
    curve = jax.lax.select_n(
        operation.stretch, *(jnp.broadcast_to(case, counts.shape) for case in cases)
    )
    return curve.ravel().at[bins].get(mode="promise_in_bounds").reshape(levels.shape)


def _ends(counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest level of each channel that there is, `[K, 1]`."""
    seen = counts > 0
    low, after = (jnp.argmax(x, 1, keepdims=True).astype(jnp.int32) for x in (seen, seen[:, ::-1]))
    return low, 255 - after


def _autocontrast(counts: jax.Array, level: jax.Array) -> jax.Array:
    low, high = _ends(counts)
    stretched = _quotient(255 * jnp.maximum(level - low, 0), jnp.maximum(high - low, 1))
    return jnp.where(high > low, jnp.minimum(stretched, 255), level)


def _equalize(counts: jax.Array, level: jax.Array) -> jax.Array:
    _, high = _ends(counts)
    below = jnp.cumsum(counts, 1, dtype=jnp.int32) - counts
    others = jnp.take_along_axis(below, high, 1)  # all but those of the highest level
    step = others // 255
    equal = _quotient(step // 2 + below, jnp.maximum(step, 1))
    return jnp.where(step > 0, jnp.minimum(equal, 255), level)


def _quotient(a: jax.Array, b: jax.Array) -> jax.Array:
    """The whole part of `a / b`, neither of which is negative: cheaper than for any sign."""
    return jax.lax.div(a, jnp.broadcast_to(b, a.shape))
