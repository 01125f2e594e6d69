"""The operations of searched policies, in one form that serves all of them.

As in `operations.py`, an operation is a row of numbers instead of a function, and every image goes
the same way, of which its row leaves all but one step without effect: so one compiled program
serves every policy. Pixels are numbers in [0, 1], interpolated, not the 256 levels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regjax.core.draws import quantile
from regjax.core.sampling import sampled


class Change(NamedTuple):
    """What an image goes through, in this order; each is one of an image `[H, W, K]`.

    Attributes:
      turn: `[2, 2]`: where a pixel comes from, row and column from the middle, by its own.
      move: `[2]`: added to that, in pixels.
      low: `[2]`, the least row and column that a pixel comes from; what is beyond is the same.
      high: `[2]`, the largest.
      blur: `[]`, the standard deviation in pixels.
      kernel: `[3, 3]`: what neighbours count.
      gamma: `[]`, the exponent.
      colour: `[]`, added to the saturation and, in turns, to the hue.
      factor: `[]`, of each pixel.
      shift: `[K]`: added to it.
      noise: `[]`, the standard deviation of what is added next.
      cells: `[2]`: the grid, rows and columns, whose cells are lost as wholes.
      lost: `[]`, the chance of each.
      salt: `[]` bool, whether light and dark pixels come in their place, or black.
      shared: `[]` bool, whether all channels have the same noise and lose the same cells.
    """

    turn: jax.Array
    move: jax.Array
    low: jax.Array
    high: jax.Array
    blur: jax.Array
    kernel: jax.Array
    gamma: jax.Array
    colour: jax.Array
    factor: jax.Array
    shift: jax.Array
    noise: jax.Array
    cells: jax.Array
    lost: jax.Array
    salt: jax.Array
    shared: jax.Array


def apply(pixels: jax.Array, change: Change, field: jax.Array) -> jax.Array:
    """An image after one operation, clipped.

    Args:
      pixels: `[H, W, K]` in [0, 1].
      change: what it goes through.
      field: `[H, W, K + 1]`, uniform in (-1, 1): what its noise and its losses are drawn by.

    Returns:
      `[H, W, K]` in [0, 1]; as it was, bit by bit, where nothing is to change.

    Example:
      `apply(pixels, strengths.change(code, magnitude, draws, pixels.shape), field)`
    """
    pixels = _filtered(_blurred(_moved(pixels, change), change.blur), change.kernel)
    pixels = jnp.where(change.gamma == 1, pixels, pixels**change.gamma)
    pixels = _coloured(pixels, change.colour)
    noisy = pixels * change.factor + change.shift[None, None]
    noisy = noisy + change.noise * quantile(_seen(field, change.shared))
    return jnp.clip(_with_losses(noisy, change, field), 0, 1)


def _seen(field: jax.Array, shared: jax.Array) -> jax.Array:
    """The field of each channel, or of the first for all."""
    return jnp.where(shared, field[..., :1], field[..., :-1])


def _moved(pixels: jax.Array, change: Change) -> jax.Array:
    """Each pixel from its place, between the four around it; black from outside."""
    height, width, _ = pixels.shape
    middle = jnp.array([height - 1, width - 1], pixels.dtype) / 2
    row, column = jnp.arange(height) - middle[0], jnp.arange(width) - middle[1]

    def place(axis: int) -> jax.Array:
        to = change.turn[axis, 0] * row[:, None] + change.turn[axis, 1] * column[None, :]
        return jnp.clip(to + middle[axis] + change.move[axis], change.low[axis], change.high[axis])

    return sampled(pixels, (place(0), place(1)), "constant")


def _blurred(pixels: jax.Array, sigma: jax.Array) -> jax.Array:
    """Weights of a Gaussian among the image's own rows and columns, whose sum is 1."""

    def weights(length: int) -> jax.Array:
        apart = jnp.arange(length)[:, None] - jnp.arange(length)[None, :]
        # A deviation of 0 would divide by 0; this one leaves everything where it is.
        bell = jnp.exp(-0.5 * (apart / jnp.maximum(sigma, 1e-2)) ** 2).astype(pixels.dtype)
        return bell / bell.sum(1, keepdims=True)

    height, width, _ = pixels.shape
    product = functools.partial(jnp.einsum, precision="highest")
    rows = product("ij,jwk->iwk", weights(height), pixels)
    return product("ij,hjk->hik", weights(width), rows)


def _filtered(pixels: jax.Array, kernel: jax.Array) -> jax.Array:
    height, width, _ = pixels.shape
    padded = jnp.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    return sum(
        (kernel[i, j] * padded[i : i + height, j : j + width] for i in range(3) for j in range(3)),
        jnp.zeros_like(pixels),
    )


def _coloured(pixels: jax.Array, amount: jax.Array) -> jax.Array:
    """Hue and saturation moved, the largest of the three channels kept; grey has neither."""
    if pixels.shape[-1] != 3:
        return pixels
    value, least = pixels.max(-1, keepdims=True), pixels.min(-1, keepdims=True)
    apart = value - least
    red, green, blue = jnp.split(pixels, 3, -1)
    by = jnp.where(apart == 0, 1, apart)
    hue = jnp.select(
        [value == red, value == green],
        [(green - blue) / by, 2 + (blue - red) / by],
        4 + (red - green) / by,
    )
    saturation = jnp.clip(apart / jnp.where(value == 0, 1, value) + amount, 0, 1)
    # Grey has no hue, and so no saturation that could show it.
    saturation = jnp.where(apart == 0, 0, saturation)
    sixth = (jnp.array([[[5, 3, 1]]], pixels.dtype) + hue + 6 * amount) % 6
    share = jnp.clip(jnp.minimum(sixth, 4 - sixth), 0, 1)
    return jnp.where(amount == 0, pixels, value * (1 - saturation * share))


def _with_losses(pixels: jax.Array, change: Change, field: jax.Array) -> jax.Array:
    """Pixels whose cell's own draw is below the chance are lost."""
    height, width, _ = pixels.shape
    row, column = (
        jnp.floor((jnp.arange(length) + 0.5) * change.cells[axis] / length).astype(jnp.int32)
        for axis, length in enumerate((height, width))
    )
    cell = _seen(field, change.shared)[row[:, None], column[None, :]]
    # Beta(1/2, 1/2): mostly near black or white.
    salt = jnp.sin(jnp.pi / 4 * (field[..., -1:] + 1)) ** 2
    return jnp.where((cell + 1) / 2 < change.lost, jnp.where(change.salt, salt, 0), pixels)
