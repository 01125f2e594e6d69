"""Grouped convolutions on CPUs, as plain convolutions of blocks of neighbouring groups.

XLA's own grouped convolution is slow on CPUs, by more than a hundred times in a loop. Here each
group, or where groups are narrow a block of several, is a plain convolution; the kernel of a block
is zero between groups. The blocks are taken one after the other, so that only one is unfolded at
a time, and a program is as long for 32 groups as for 2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

# Groups are taken together as long as their block has at most so many channels: the zeros cost
# less than convolutions of a few channels do.
WIDTH = 16

Bilinear = Callable[[jax.Array, jax.Array], jax.Array]


def apply(plain: Bilinear, a: jax.Array, b: jax.Array, groups: int, to_kernel: bool) -> jax.Array:
    """A grouped bilinear map of a convolution, by the plain one.

    Args:
      plain: one of the maps (image, kernel) -> output, (output, kernel) -> image and
        (image, output) -> kernel, without groups.
      a: an image or an output [B, H, W, K].
      b: a kernel [h, w, K / groups, O], or with `to_kernel` an output [B, H', W', O].
      groups: of K and of O.
      to_kernel: whether the map is to the kernel.

    Returns:
      The output, the image, or the kernel [h, w, K / groups, O].
    """
    widths = [a.shape[-1] // groups, b.shape[-1] // groups]
    together = _together(groups, max(widths if to_kernel else [*widths, b.shape[-2]]))
    blocks = groups // together
    split = _split(a, blocks), _split(b, blocks) if to_kernel else _widened(b, blocks, together)
    each = lax.map(lambda pair: plain(*pair), split)
    return _narrowed(each, together) if to_kernel else _joined(each)


def at_once(plain: Bilinear, a: jax.Array, b: jax.Array, groups: int, to_kernel: bool) -> jax.Array:
    """As `apply`, with all groups side by side: patches become one batched matrix product."""
    split = _split(a, groups), _split(b, groups) if to_kernel else _widened(b, groups, 1)
    each = jax.vmap(plain)(*split)
    return _narrowed(each, 1) if to_kernel else _joined(each)


def _together(groups: int, width: int) -> int:
    """The most groups that fit into a block and divide them all."""
    fitting = range(1, max(1, min(groups, WIDTH // width)) + 1)
    return max(n for n in fitting if groups % n == 0)


def _split(x: jax.Array, blocks: int) -> jax.Array:
    """The blocks [blocks, ..., C / blocks] of the last axis of x [..., C]."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], blocks, -1), -2, 0)


def _joined(x: jax.Array) -> jax.Array:
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


def _widened(kernel: jax.Array, blocks: int, together: int) -> jax.Array:
    """Each block's kernel [blocks, h, w, together K', O / blocks], zero between its groups."""
    height, width, channels, _ = kernel.shape
    each = _split(kernel, blocks)
    if together == 1:
        return each
    each = each.reshape(blocks, height, width, 1, channels, together, -1)
    own = jnp.eye(together, dtype=bool)[:, None, :, None]
    return jnp.where(own, each, 0).reshape(blocks, height, width, together * channels, -1)


def _narrowed(each: jax.Array, together: int) -> jax.Array:
    """What `_widened` has of kernels [h, w, K', O], between groups or not: its transpose."""
    blocks, height, width, channels, _ = each.shape
    if together == 1:
        return _joined(each)
    channels //= together
    each = each.reshape(blocks, height, width, together, channels, together, -1)
    own = jnp.moveaxis(jnp.diagonal(each, axis1=3, axis2=5), -1, -2)
    return _joined(own.reshape(blocks, height, width, channels, -1))
