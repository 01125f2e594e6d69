"""Which rows of a whole batch a network sees, where devices and parts take some of them each.

Dropout draws other masks on every device and in every part, from a key salted with their numbers. A
layer that draws one number for an image can do better: `keys` gives it one key for every row of the
whole batch, so that an image has the draws of its row on any number of devices and parts. A batch
that nobody has said is spread is whole, and under `vmap` all calls see rows of the same numbers.
Where the network is run on more images than the batch's, as on two views at once, rows still differ
from each other, but their numbers depend on the spread.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp

# From the numbers of rows in a part, and their count, to numbers in what the part is of.
Place = Callable[[jax.Array, int], tuple[jax.Array, int]]


class _Spread(NamedTuple):
    """A call of the network on some rows: the key for all, and what each place adds."""

    key: jax.Array
    places: tuple[Place, ...]


_spread: ContextVar[_Spread | None] = ContextVar("spread", default=None)


def block(number: int | jax.Array) -> Place:
    """The place of contiguous rows: device `number` has rows `number n` to `number n + n - 1`."""
    return lambda rows, size: (number * size + rows, size)


def every(step: int, number: int | jax.Array) -> Place:
    """The place of every so many-th row, from row `number` on."""
    return lambda rows, size: (step * rows + number, step * size)


@contextlib.contextmanager
def spread(key: jax.Array, place: Place) -> Iterator[None]:
    """Says, while a network is called, where its rows lie in the whole batch.

    Where one is within another, the outer is of the smaller part, and its key that of all.

    Args:
      key: what the network's draws come from, the same for all rows of the batch.
      place: made by `block` or `every`.

    Example:
      >>> import jax
      >>> with spread(jax.random.key(0), every(2, 1)):
      ...     second = keys(jax.random.key, 0, 1)
      >>> with spread(jax.random.key(0), every(1, 0)):
      ...     print((keys(jax.random.key, 0, 2)[1:] == second).all())
      True
    """
    whole = _spread.get() or _Spread(key, ())
    before = _spread.set(_Spread(whole.key, (*whole.places, place)))
    try:
        yield
    finally:
        _spread.reset(before)


def shared(own: Callable[[], jax.Array], layer: int) -> jax.Array:
    """A key for a draw that all rows of the whole batch have in common.

    Args:
      own: returns the layer's own key; called only where no spread is said.
      layer: a number of the layer's own, for where one is.

    Returns:
      A key, `[]`, that is none of those of rows.

    Example:
      >>> import jax
      >>> shared(lambda: jax.random.key(0), 3).shape
      ()
    """
    return jax.random.fold_in(_root(own, layer), 2**32 - 1)


def keys(own: Callable[[], jax.Array], layer: int, size: int) -> jax.Array:
    """A key for each row that the network sees, which depends on its row in the whole batch.

    Args:
      own: as in `shared`.
      layer: as in `shared`.
      size: the number of rows that the network sees.

    Returns:
      Keys, `[size]`.

    Example:
      >>> import jax
      >>> keys(lambda: jax.random.key(0), 3, 4).shape
      (4,)
    """
    whole, numbers = _spread.get(), jnp.arange(size)
    for place in () if whole is None else whole.places:
        numbers, size = place(numbers, size)
    return jax.vmap(jax.random.fold_in, (None, 0))(_root(own, layer), numbers)


def _root(own: Callable[[], jax.Array], layer: int) -> jax.Array:
    whole = _spread.get()
    if whole is None:
        return own()
    # By a name of its own, since the salts of devices and parts are folded into this key too.
    return jax.random.fold_in(jax.random.fold_in(whole.key, zlib.crc32(b"rows")), layer)
