"""Who is mixed with whom, and in which proportion: what all mixing stages share."""

from __future__ import annotations

import dataclasses
import functools
from typing import TypeGuard

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from regjax.core.axes import check_axis, is_mapped, varying_as
from regjax.core.batch import Batch, example_keys
from regjax.core.precision import wide
from regjax.core.stages import Number
from regjax.mixing.exchange import exchanged


def draw_lambda(key: jax.Array, batch: Batch, alpha: Number, per_example: bool) -> jax.Array:
    """The share that each example keeps of itself: `lambda ~ Beta(alpha, alpha)`, 1 at alpha 0.

    Args:
      key: drives the draw.
      batch: the examples, for `batch.index`.
      alpha: `[]`; 1 draws uniformly, small ones near 0 and 1, and 0 switches mixing off.
      per_example: whether every example draws its own by `batch.index`, or one serves all.

    Returns:
      `[]`, or `[B]` where drawn per example; float32.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> batch = rj.Batch(jnp.ones((2, 1)), jnp.ones((2, 1)))
      >>> draw_lambda(jax.random.key(0), batch, 1.0, True).shape
      (2,)
      >>> print(draw_lambda(jax.random.key(0), batch, 0.0, False))
      1.0
    """
    alpha = jnp.asarray(alpha, jnp.float32)
    # Twice where: Beta(0, 0) and its derivative are NaN, and would be so after the outer where.
    positive = jnp.where(alpha > 0, alpha, 1)

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.beta(key, positive, positive, dtype=jnp.float32)

    drawn = jax.vmap(draw)(example_keys(key, batch)) if per_example else draw(key)
    return jnp.where(alpha > 0, drawn, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pairing:
    """A partner for each example: a permutation of the batch. Made by `pair`.

    Attributes:
      partner: `[B]` integers, the partner's place in the batch; of the examples of all devices
        where they are paired among each other.
      axis_name: the axis of the devices among which examples are paired, or None.
    """

    partner: jax.Array
    axis_name: str | None = dataclasses.field(default=None, metadata={"static": True})

    def of(self, h: jax.Array) -> jax.Array:
        """The partners' rows of `h [B, ...]`."""
        # A gather's transpose is a scatter, which XLA runs row by row on CPUs. A permutation's is
        # its inverse: as the solution of a linear system it can be told so.
        h = varying_as(jnp.asarray(h), self.partner)
        partner, inverse = (varying_as(p, h) for p in (self.partner, jnp.argsort(self.partner)))
        return jax.lax.custom_linear_solve(
            lambda x: _rows(_gather(x, self.axis_name), _own(inverse, self.axis_name)),
            h,
            lambda _, x: _moved(x, partner, inverse, self.axis_name),
            lambda _, x: _moved(x, inverse, partner, self.axis_name),
        )

    def mix(self, h: jax.Array, lam: jax.Array) -> jax.Array:
        """`lam h + (1 - lam) h_partner`, computed in float32 at least; `h` itself at lam 1.

        Args:
          h: `[B, ...]`, finite.
          lam: `[]` or `[B]`.

        Returns:
          `[B, ...]`, of the type of `h`.
        """
        lam = lam.reshape(lam.shape + (1,) * (h.ndim - lam.ndim))
        return (lam * wide(h) + (1 - lam) * wide(self.of(h))).astype(h.dtype)


def pair(key: jax.Array, batch: Batch, axis_name: str | None = None) -> Pairing:
    """The examples in pairs, by a permutation drawn uniformly, in which one may meet itself.

    The examples are put in two random orders, drawn by `batch.index`; who has rank r in the first
    is paired with who has rank r in the second. So partners depend neither on the order of the
    batch nor on the device, and padding, last in both orders, is paired with padding.

    Args:
      key: drives the draw.
      batch: the examples, for `batch.index` and `batch.weight`.
      axis_name: under `pmap` and `shard_map`, the axis among whose devices examples are paired, as
        one device would pair them all; None pairs those of each device. Under `jit`, an axis of
        the mesh that `jax.set_mesh` set, over which the batch is split: pairs are the same without
        it, but the compiler then gathers all rows on every device.

    Returns:
      A `Pairing`.

    Raises:
      ValueError: there is no such axis, or it cannot split the batch.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> batch = rj.Batch(jnp.ones((4, 1)), jnp.ones((4, 1)))
      >>> pairing = pair(jax.random.key(0), batch)
      >>> print(jnp.sort(pairing.of(jnp.arange(4))))
      [0 1 2 3]
    """
    size = batch.image.shape[0]
    if axis_name is not None and not is_mapped(axis_name):
        check_axis(axis_name, size, "examples", "they are paired all the same")
    start = size * jax.lax.axis_index(axis_name) if _mapped(axis_name) else 0
    index = jnp.arange(size) + start if batch.index is None else batch.index
    words = jax.vmap(lambda k: jax.random.bits(k, (2,)))(
        example_keys(key, batch.replace(index=index))
    )
    padding = jnp.zeros(size, bool) if batch.weight is None else batch.weight == 0
    index, words, padding = (_gather(x, axis_name) for x in (index, words, padding))
    # Equal words are told apart by index, since their places may be in another order elsewhere.
    first, second = (jnp.lexsort((index, words[:, i], padding)) for i in (0, 1))
    return Pairing(jnp.zeros_like(first).at[first].set(second, unique_indices=True), axis_name)


def _mapped(axis_name: str | None) -> TypeGuard[str]:
    return axis_name is not None and is_mapped(axis_name)


def _gather(x: jax.Array, axis_name: str | None) -> jax.Array:
    """The rows of all devices."""
    return jax.lax.all_gather(x, axis_name, tiled=True) if _mapped(axis_name) else x


def _own(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Of the rows of all devices, this one's."""
    if not _mapped(axis_name):
        return x
    size = len(x) // jax.lax.axis_size(axis_name)
    start = size * jax.lax.axis_index(axis_name)
    return jax.lax.dynamic_slice_in_dim(x, start, size)


def _moved(x: jax.Array, to: jax.Array, back: jax.Array, axis_name: str | None) -> jax.Array:
    """The rows of a permutation, of which `back` is the inverse."""
    if axis_name is None:
        return _rows(x, to)
    exchange = functools.partial(exchanged, axis_name=axis_name)
    if not is_mapped(axis_name):
        split = PartitionSpec(axis_name)
        exchange = jax.shard_map(exchange, in_specs=(split,) * 3, out_specs=split)
    return exchange(x, _own(to, axis_name), _own(back, axis_name))


def _rows(x: jax.Array, places: jax.Array) -> jax.Array:
    return x.at[places].get(mode="promise_in_bounds", unique_indices=True)


def draw_pairs(
    key: jax.Array, batch: Batch, alpha: Number, per_example: bool, axis_name: str | None
) -> tuple[Pairing, jax.Array]:
    """Who is mixed with whom, and in which proportion: `pair` and `draw_lambda`, a key for each.

    Args:
      key: drives the draws.
      batch: the examples.
      alpha: as in `draw_lambda`.
      per_example: as in `draw_lambda`.
      axis_name: as in `pair`.

    Returns:
      A `Pairing`, and lambda, `[]` or `[B]`.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> batch = rj.Batch(jnp.ones((4, 1)), jnp.ones((4, 1)))
      >>> pairing, lam = draw_pairs(jax.random.key(0), batch, 1.0, False, None)
      >>> pairing.mix(batch.image, lam).shape
      (4, 1)
    """
    to_pair, to_mix = jax.random.split(key)
    return pair(to_pair, batch, axis_name), draw_lambda(to_mix, batch, alpha, per_example)
