"""Sums whose derivative is computed along with their value, in the memory of one term.

Differentiated as usual, a sum of C terms keeps what C backward passes need until all are done, or
computes each term twice. Here each term's gradient is taken at once and added up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def eager_sum(term: Callable[[jax.Array], jax.Array], count: int) -> jax.Array:
    """`sum_{k < count} term(k)`, with at most one term's intermediate arrays in memory.

    Args:
      term: `k -> []`, of an int32 scalar; it may use arrays from outside, and the derivative is
        with respect to those, in any mode and of any order.
      count: how many terms, at least 1.

    Returns:
      A scalar.

    Example:
      >>> print(jax.grad(lambda x: eager_sum(lambda k: x**k, 3))(2.0))  # of 1 + x + x^2
      5.0
    """
    # What the term uses from outside has to be an argument of what carries a derivative rule.
    closed = jax.make_jaxpr(term)(jnp.zeros((), jnp.int32))
    axes = frozenset().union(*(jax.typeof(c).mat.varying for c in map(jnp.asarray, closed.consts)))
    constants = _vary(closed.consts, axes)
    inexact = [jnp.issubdtype(c.dtype, jnp.inexact) for c in constants]
    # Of NumPy, since the rule below may be called when the trace that is on now has ended.
    ks = np.arange(count, dtype=np.int32)

    def at(k: jax.Array, constants: list[Any]) -> jax.Array:
        return jax.core.eval_jaxpr(closed.jaxpr, constants, k)[0]

    @jax.custom_jvp
    def summed(constants: list[Any]) -> jax.Array:
        return jnp.sum(jax.lax.map(lambda k: at(k, constants), ks))

    @summed.defjvp
    def derivative(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        (constants,), (directions,) = primals, tangents
        fixed = [None if i else c for c, i in zip(constants, inexact, strict=True)]
        moving = [c for c, i in zip(constants, inexact, strict=True) if i]

        def value(moving: list[Any], k: jax.Array) -> jax.Array:
            rest = iter(moving)
            return at(k, [next(rest) if f is None else f for f in fixed])

        def add(sums: Any, k: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, jax.value_and_grad(value)(moving, k)), None

        first = jax.eval_shape(jax.value_and_grad(value), moving, ks[0])
        zeros = _vary([jnp.zeros(s.shape, s.dtype) for s in jax.tree.leaves(first)], axes)
        start = jax.tree.unflatten(jax.tree.structure(first), zeros)
        (total, gradient), _ = jax.lax.scan(add, start, ks)
        along = [d for d, i in zip(directions, inexact, strict=True) if i]
        return total, sum(map(jnp.vdot, gradient, along), jnp.zeros_like(total))

    return summed(constants)


def _vary(arrays: list[Any], axes: frozenset[str]) -> list[jax.Array]:
    # Under shard_map, the gradient with respect to an array that does not vary over the devices is
    # summed over them; here each device's own is wanted, so all arrays are marked as varying.
    arrays = [jnp.asarray(a) for a in arrays]
    missing = [tuple(axes - jax.typeof(a).mat.varying) for a in arrays]
    return [
        jax.lax.pcast(a, names, to="varying") if names else a
        for a, names in zip(arrays, missing, strict=True)
    ]
