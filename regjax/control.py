"""Work that is done only where it is needed."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def when(needed: jax.Array, function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """`function(*operands)` where `needed`, else zeros of its shape, without calling it.

    Args:
      needed: bool `[]`; under `jax.vmap` both cases are computed.
      function: a traceable function; it may use arrays from outside.
      *operands: its arguments.

    Returns:
      What `function` returns.

    Example:
      >>> print(when(jnp.array(False), jnp.exp, jnp.ones(2)))
      [0. 0.]
    """
    out = jax.eval_shape(function, *operands)
    zeros = jnp.zeros(out.shape, out.dtype)
    # Under shard_map both branches must vary over the same devices.
    axes = tuple(out.manual_axis_type.varying) if out.manual_axis_type else ()
    zeros = jax.lax.pcast(zeros, axes, to="varying") if axes else zeros
    return jax.lax.cond(needed, function, lambda *_: zeros, *operands)
