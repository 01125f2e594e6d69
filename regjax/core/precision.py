"""Arithmetic that is exact enough, whatever the network computes in."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def wide(a: jax.Array) -> jax.Array:
    """The array in float32 at least, in which sums over bfloat16 are exact enough."""
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
