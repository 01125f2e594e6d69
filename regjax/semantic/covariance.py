"""Covariances of features by class: how each kind is kept, merged with a batch, and used.

Every kind is a NamedTuple with the same methods, so that `statistics.py` and `bounds.py` need not
know which one they hold. There are C classes, A features and N examples. Classes come one after
another, each with its own examples: nothing of size N x C x A or N x A x A is ever built.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


class Merge(NamedTuple):
    """What merging a batch with the past needs.

    Attributes:
      features: the features, `[N, A]`, measured from amid them, since squares of the features
        themselves, and means of what lies far from 0, would lose digits.
      weight: the weights, `[N, C]`: what each example counts for each class.
      size: `[C]`, m, the sums of the weights, 1 in the place of 0.
      mean: `[C, A]`, mu', the means of these features.
      step: `[C, A]`, mu - mu', from the batch's mean to that of the past.
      share: `[C]`, w = m / (n + m), the batch's share in all that was seen; 0 where nothing was.
    """

    features: jax.Array
    weight: jax.Array
    size: jax.Array
    mean: jax.Array
    step: jax.Array
    share: jax.Array


Rows = tuple[jax.Array, jax.Array]


class Full(NamedTuple):
    """Covariance matrices, `matrix [C, A, A]`."""

    matrix: jax.Array

    @property
    def chunk(self) -> int:
        """Classes in a piece of work, which is skipped as a whole where none of them occurs."""
        return 8

    def keeps_little(self, classes: int) -> bool:
        """Whether what `differences` keeps for its derivative is small beside the matrices."""
        return 3 * classes <= self.matrix.shape[-1]

    @classmethod
    def zeros(cls, classes: int, features: int, dtype: Any, rank: int | None) -> Self:
        """Of classes that have not occurred; `rank` is of no use here."""
        return cls(jnp.zeros((classes, features, features), dtype))

    def merged(self, merge: Merge) -> Self:
        """With a batch, eq. (2); classes that it lacks are not touched, nor even read."""

        def add(matrix: jax.Array, c: jax.Array, keep: jax.Array, rows: Rows) -> jax.Array:
            moved, weight = rows
            return matrix.at[c].set(keep * matrix[c] + moved.T @ (moved * weight[:, None]))

        return self._replace(matrix=_by_class(merge, add, self.matrix))

    def differences(self, kernel: jax.Array, rows: jax.Array, classes: jax.Array) -> jax.Array:
        """`(w_j - w_c)' Sigma (w_j - w_c)`, `[S, C]`, of `classes [S]`, kept at `rows [S]`."""
        w = kernel.T
        return jax.lax.map(lambda at: _differences(w, self.matrix[at[0]], at[1]), (rows, classes))

    def gram(self, kernel: jax.Array, row: jax.Array) -> jax.Array:
        """`w_j' Sigma w_k`, `[C, C]`, of the class at `row`."""
        return kernel.T @ (self.matrix[row] @ kernel)

    def roots(self) -> Self:
        """`L` with `L L' = Sigma` in the place of `Sigma`, all classes; for `noise`."""
        return self._replace(matrix=jax.lax.map(root, self.matrix))

    def noise(self, row: jax.Array, normal: jax.Array) -> jax.Array:
        """Of roots: `L u`, `[M, A]`, for each of `normal [M, width]`."""
        return normal @ self.matrix[row].T

    @property
    def width(self) -> int:
        """How many standard normal numbers make one draw."""
        return self.matrix.shape[-1]


class Shared(Full):
    """One covariance matrix that stands for all classes, `matrix [1, A, A]`."""

    # A type of its own: a device may keep one class's matrix out of many.
    __slots__ = ()


class Diagonal(NamedTuple):
    """The diagonals of the covariance matrices, `variance [C, A]`."""

    variance: jax.Array

    @property
    def chunk(self) -> int:
        """Classes in a piece of work."""
        return 256

    def keeps_little(self, classes: int) -> bool:
        """Whether what `differences` keeps for its derivative is small: not beside the rest."""
        return False

    @classmethod
    def zeros(cls, classes: int, features: int, dtype: Any, rank: int | None) -> Self:
        """Of classes that have not occurred; `rank` is of no use here."""
        return cls(jnp.zeros((classes, features), dtype))

    def merged(self, merge: Merge) -> Diagonal:
        """With a batch, eq. (2) on the diagonal; classes that it lacks are not touched."""

        def add(variance: jax.Array, c: jax.Array, keep: jax.Array, rows: Rows) -> jax.Array:
            moved, weight = rows
            return variance.at[c].set(keep * variance[c] + weight @ moved**2)

        return Diagonal(_by_class(merge, add, self.variance))

    def differences(self, kernel: jax.Array, rows: jax.Array, classes: jax.Array) -> jax.Array:
        """`sum_a variance_a (w_ja - w_ca)^2`, `[S, C]`, as three matrix products."""
        variance, own = self.variance[rows], kernel[:, classes].T
        cross = variance * own
        square = variance @ kernel**2 + jnp.sum(cross * own, -1, keepdims=True)
        # Rounding leaves a class some distance from itself.
        other = jnp.arange(kernel.shape[1])[None] != classes[:, None]
        return jnp.where(other, square - 2 * cross @ kernel, 0)

    def gram(self, kernel: jax.Array, row: jax.Array) -> jax.Array:
        """`sum_a variance_a w_ja w_ka`, `[C, C]`, of the class at `row`."""
        return kernel.T @ (self.variance[row][:, None] * kernel)

    def roots(self) -> Diagonal:
        """Standard deviations in the place of variances; for `noise`."""
        return Diagonal(jnp.sqrt(self.variance))

    def noise(self, row: jax.Array, normal: jax.Array) -> jax.Array:
        """Of roots: each of `normal [M, width]` times the standard deviations, `[M, A]`."""
        return self.variance[row][None] * normal

    @property
    def width(self) -> int:
        """How many standard normal numbers make one draw."""
        return self.variance.shape[-1]


class LowRank(NamedTuple):
    """Sketches of the covariance matrices, `sketch [C, R, A]` with `Sigma ~ sketch' sketch`.

    By frequent directions ("Simple and deterministic matrix sketching", Liberty, 2013): the sketch
    never exceeds the matrix, and for every k < R the spectral norm of what it lacks is at most the
    sum of all but the k largest eigenvalues of the matrix, divided by R - k.
    """

    sketch: jax.Array

    @property
    def chunk(self) -> int:
        """Classes in a piece of work."""
        return 32

    def keeps_little(self, classes: int) -> bool:
        """Whether what `differences` keeps for its derivative is small: not beside the rest."""
        return False

    @classmethod
    def zeros(cls, classes: int, features: int, dtype: Any, rank: int | None) -> Self:
        """Of classes that have not occurred."""
        assert rank is not None
        return cls(jnp.zeros((classes, rank, features), dtype))

    def merged(self, merge: Merge) -> LowRank:
        """With a batch, eq. (2), cut to R rows again; classes that it lacks are not touched."""

        def add(sketch: jax.Array, c: jax.Array, keep: jax.Array, rows: Rows) -> jax.Array:
            moved, weight = rows
            new = jnp.sqrt(weight)[:, None] * moved
            whole = jnp.concatenate([jnp.sqrt(keep) * sketch[c], new])
            return sketch.at[c].set(_cut(whole, sketch.shape[1]))

        return LowRank(_by_class(merge, add, self.sketch))

    def differences(self, kernel: jax.Array, rows: jax.Array, classes: jax.Array) -> jax.Array:
        """`|sketch (w_j - w_c)|^2`, `[S, C]`, of `classes [S]`, kept at `rows [S]`."""
        seen = self.sketch[rows] @ kernel
        own = jnp.take_along_axis(seen, classes[:, None, None], axis=-1)
        return jnp.sum((seen - own) ** 2, axis=1)

    def gram(self, kernel: jax.Array, row: jax.Array) -> jax.Array:
        """`w_j' sketch' sketch w_k`, `[C, C]`, of the class at `row`."""
        seen = self.sketch[row] @ kernel
        return seen.T @ seen

    def roots(self) -> LowRank:
        """The sketches, which are roots already; for `noise`."""
        return self

    def noise(self, row: jax.Array, normal: jax.Array) -> jax.Array:
        """`sketch' u`, `[M, A]`, for each of `normal [M, width]`."""
        return normal @ self.sketch[row]

    @property
    def width(self) -> int:
        """How many standard normal numbers make one draw."""
        return self.sketch.shape[1]


KINDS: dict[str, type[Full] | type[Diagonal] | type[LowRank]] = {
    "full": Full,
    "diagonal": Diagonal,
    "shared": Shared,
    "low_rank": LowRank,
}


def root(matrix: jax.Array) -> jax.Array:
    """Lower `L` with `L L' = Sigma + floor I`, where the floor is what rounding may hide."""
    eps = jnp.finfo(matrix.dtype)
    floor = 4 * eps.eps * jnp.trace(matrix) + eps.tiny
    return jnp.linalg.cholesky(matrix + floor * jnp.eye(len(matrix), dtype=matrix.dtype))


@jax.custom_jvp
def _differences(w: jax.Array, matrix: jax.Array, c: jax.Array) -> jax.Array:
    """`(w_j - w_c)' Sigma (w_j - w_c)`, `[C]`, of the rows of `w [C, A]`, Sigma symmetric."""
    product = w @ matrix
    return jnp.sum((product - product[c][None]) * (w - w[c][None]), -1)


def _differences_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # By symmetry one product serves the value and its derivative; without this rule it takes two.
    (w, matrix, c), (direction, turn, _) = primals, tangents
    product = w @ matrix
    product, apart = product - product[c][None], w - w[c][None]
    slope = jnp.zeros_like(w[:, 0])
    if not isinstance(direction, SymbolicZero):
        slope = slope + 2 * jnp.sum(product * (direction - direction[c][None]), -1)
    if not isinstance(turn, SymbolicZero):
        slope = slope + jnp.sum((apart @ turn) * apart, -1)
    return jnp.sum(product * apart, -1), slope


_differences.defjvp(_differences_jvp, symbolic_zeros=True)


def _cut(rows: jax.Array, rank: int) -> jax.Array:
    """The `rank` strongest directions of `rows' rows`, less the strength of the next one."""
    strength, vectors = jnp.linalg.eigh(rows @ rows.T)
    strength, vectors = strength[::-1], vectors[:, ::-1]
    left = jnp.maximum(strength[:rank] - jnp.maximum(strength[rank], 0), 0)
    scale = jnp.sqrt(left / jnp.where(left > 0, strength[:rank], 1))
    return (vectors[:, :rank] * scale[None]).T @ rows


def _by_class(merge: Merge, add: Callable[..., jax.Array], state: jax.Array) -> jax.Array:
    """Adds every class's examples to its entry of the state, in place, so many at a time.

    `add(state, c, keep, (x, w))` is to replace the class's `Sigma` by `keep Sigma + x' diag(w) x`.
    """
    size, classes = merge.weight.shape
    at_once = min(max(16 * math.ceil(size / classes / 16), 16), 4096)
    pieces = -(-jnp.sum(merge.weight > 0, 0) // at_once)
    ends = jnp.cumsum(pieces)

    def work(i: jax.Array, state: jax.Array) -> jax.Array:
        c = jnp.searchsorted(ends, i, side="right")
        piece = i - (ends[c] - pieces[c])
        weight, share = merge.weight[:, c], merge.share[c]
        place = jnp.cumsum(weight > 0) - 1 - piece * at_once
        place = jnp.where((weight > 0) & (place >= 0), place, at_once)
        index = jnp.full(at_once, size).at[place].set(jnp.arange(size), mode="drop")
        own = weight.at[index].get(mode="fill", fill_value=0) * share / merge.size[c]
        x = merge.features.at[index].get(mode="fill", fill_value=0) - merge.mean[c][None]
        # The past is counted once, with the class's first examples.
        keep = jnp.where(piece == 0, 1 - share, 1)
        between = jnp.where(piece == 0, share * (1 - share), 0)
        x, own = jnp.concatenate([x, merge.step[c][None]]), jnp.append(own, between)
        return add(state, c, keep, (x, own))

    return jax.lax.fori_loop(0, ends[-1], work, state)
