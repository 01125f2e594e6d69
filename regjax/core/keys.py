"""Keys by name."""

import zlib

import jax


def named_key(key: jax.Array, name: str) -> jax.Array:
    """A key of its own for every name, so that adding a stage leaves the others their draws."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
