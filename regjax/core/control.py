"""Work that is done only where it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from regjax.core.axes import varying_as


def recomputed(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """As `jax.checkpoint`, whose parts it keeps where a derivative is itself differentiated.

    A `Point` takes the loss's derivative by the logits inside that by the parameters; there,
    `jax.checkpoint` in a loop would be undone, and all its iterations' intermediates be stored.

    Args:
      function: of pytrees, all that it depends on; its loops have checkpointed bodies.

    Returns:
      The same function.
    """
    same = jax.custom_jvp(function)

    def derivative(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        leaves, structure = jax.tree.flatten(primals)
        moves = jax.tree.leaves(tangents)
        moved = [i for i, move in enumerate(moves) if not isinstance(move, SymbolicZero)]

        def of_moved(*values: jax.Array) -> jax.Array:
            given = dict(zip(moved, values, strict=True))
            inputs = [given.get(i, leaf) for i, leaf in enumerate(leaves)]
            return function(*jax.tree.unflatten(structure, inputs))

        inputs, along = ([x[i] for i in moved] for x in (leaves, moves))
        return same(*primals), jax.jvp(of_moved, inputs, along)[1]

    same.defjvp(derivative, symbolic_zeros=True)
    return same


def when(needed: jax.Array, function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """`function(*operands)` where `needed`, else zeros of its shape, without calling it.

    Args:
      needed: bool `[]`; under `jax.vmap` both cases are computed.
      function: a traceable function. All that is differentiated must be its argument: under
        shard_map, the derivative of what is the same on all devices is summed over them, and a sum
        in a branch that some devices skip is one that the others wait for.
      *operands: its arguments.

    Returns:
      What `function` returns.

    Example:
      >>> print(when(jnp.array(False), jnp.exp, jnp.ones(2)))
      [0. 0.]
    """
    operands = tuple(varying_as(x, needed) for x in operands)
    out = jax.eval_shape(function, *operands)
    zeros = varying_as(jnp.zeros(out.shape, out.dtype), out)
    return jax.lax.cond(needed, function, lambda *_: zeros, *operands)
