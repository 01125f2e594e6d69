"""The transport of Puzzle Mix: an optimal assignment of an image's blocks to places."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from regjax.core.definitions import Number

ROUNDS = 8  # in which blocks may be brought to stay, before the others search for places
Row = Callable[[jax.Array], jax.Array]  # a block's cost at every place, `[] -> [N]`
Triple = tuple[jax.Array, jax.Array, jax.Array]


class _Path(NamedTuple):
    """A search for the shortest augmenting path: distances to places, and who reached them."""

    distance: jax.Array
    reached_by: jax.Array
    scanned: jax.Array
    nearest: jax.Array


def transport_blocks(saliency: jax.Array, mask: jax.Array, cost: Number) -> jax.Array:
    """Where each place takes its block from: the permutation that keeps most saliency, less cost.

    `max_pi sum_i s_i z_pi(i) - xi ||i - pi(i)||^2 / D^2`, where block i goes to place `pi(i)` and D
    is the longer side of the grid, in steps. See "Puzzle Mix" (Kim, Choo and Song, 2020), the
    transport objective of section 4. Their algorithm assigns blocks greedily; this one is exact, up
    to rounding, and of equally good permutations prefers that which moves nothing: shortest
    augmenting paths ("A shortest augmenting path algorithm for dense and sparse linear assignment
    problems", Jonker and Volgenant, 1987), for those blocks that no bonus keeps at home.

    It always ends with a permutation, after at most N searches of N steps for N blocks, of which
    `jax.vmap` makes as many as the slowest grid needs; where little moves they are few. Rows of the
    N x N costs are computed when needed and not kept.

    Args:
      saliency: `[R, C]`, s.
      mask: `[R, C]`, z.
      cost: `[]`, xi.

    Returns:
      `[R * C]` int32: the block that comes to each place, both counted row by row.

    Example:
      >>> saliency, mask = jnp.array([[0.9, 0.1]]), jnp.array([[0.0, 1.0]])
      >>> [transport_blocks(saliency, mask, cost).tolist() for cost in (0.1, 0.5)]
      [[1, 0], [0, 1]]
    """
    rows, columns = mask.shape
    worth, kept = saliency.reshape(-1), mask.reshape(-1)
    places = jnp.arange(kept.size, dtype=jnp.int32)
    y, x = places // columns, places % columns
    cost = cost / max(rows - 1, columns - 1, 1) ** 2

    def row(block: jax.Array) -> jax.Array:
        square = (y - y[block]) ** 2 + (x - x[block]) ** 2
        return cost * square - worth[block] * kept

    owner, bonus = _settle(row, places, -worth * kept)
    return _assign(row, owner, bonus)


def _settle(row: Row, places: jax.Array, home: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gives every place a bonus to keep its block at home; who then is (else -1), and the bonus.

    Where no permutation gains anything, a few rounds make all stay, and no search is needed.
    """

    def step(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        _, _, bonus, rounds = carry
        best = jax.vmap(lambda block: jnp.min(row(block) - bonus))(places)
        owner = jnp.where(home - bonus <= best, places, -1)
        return owner, bonus, jnp.maximum(bonus, home - best), rounds + 1

    def unsettled(carry: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.any(carry[0] < 0) & (carry[-1] < ROUNDS)

    nobody, nothing = jnp.full_like(home, -1, jnp.int32), jnp.zeros_like(home)
    start: tuple[jax.Array, ...] = (nobody, nothing, nothing, jnp.zeros((), jnp.int32))
    owner, bonus, *_ = lax.while_loop(unsettled, step, start)
    return owner, bonus


def _assign(row: Row, owner: jax.Array, bonus: jax.Array) -> jax.Array:
    """Completes a matching, block i at place i or nowhere, that is the best for those it has."""

    def step(carry: Triple) -> Triple:
        owner, place, bonus = carry
        path = _search(row, _index(place >= 0), owner, bonus)
        bonus += jnp.where(path.scanned, path.distance - path.distance[path.nearest], 0)
        return (*_augment(path, owner, place), bonus)

    return lax.while_loop(lambda carry: jnp.any(carry[0] < 0), step, (owner, owner, bonus))[0]


def _search(row: Row, start: jax.Array, owner: jax.Array, bonus: jax.Array) -> _Path:
    """Dijkstra's, from a block without a place to the nearest place without a block."""

    def step(path: _Path) -> _Path:
        nearest, block = path.nearest, owner[path.nearest]
        scanned = path.scanned | (jnp.arange(owner.size) == nearest)
        reduced = row(block) - bonus
        through = path.distance[nearest] + reduced - reduced[nearest]
        closer = ~scanned & (through < path.distance)
        distance = jnp.where(closer, through, path.distance)
        reached_by = jnp.where(closer, block, path.reached_by)
        return _Path(distance, reached_by, scanned, _index(jnp.where(scanned, jnp.inf, distance)))

    distance = row(start) - bonus
    path = _Path(distance, jnp.full_like(owner, start), owner < -1, _index(distance))
    # Under jax.vmap the loop also turns for grids that are done, which have no such place.
    free = jnp.any(owner < 0)
    return lax.while_loop(lambda path: free & (owner[path.nearest] >= 0), step, path)


def _augment(path: _Path, owner: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moves every block on the path to the place that it reached."""
    places = jnp.arange(owner.size)

    def step(carry: Triple) -> Triple:
        owner, place, end = carry
        block = path.reached_by[end]
        moved = jnp.where(places == end, block, owner), jnp.where(places == block, end, place)
        return (*moved, place[block])

    end = jnp.where(owner[path.nearest] < 0, path.nearest, -1)
    return lax.while_loop(lambda carry: carry[2] >= 0, step, (owner, place, end))[:2]


def _index(values: jax.Array) -> jax.Array:
    """Where the least value is, int32 whether 64 bits are enabled or not."""
    return jnp.argmin(values).astype(jnp.int32)
