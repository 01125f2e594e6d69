"""Directions in which features are moved: those of their class, of another one, and random ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

import regjax as rj
from regjax.semantic.covariance import Full, root

OWN, RANDOM, OTHER = "ISDA's directions", "random directions", "another class's"


def kept(state: Any) -> jax.Array | None:
    """The covariances `[C, A, A]` that ISDA kept in a loss's state, or None without full ones."""
    own = getattr(state, "stages", {}).get("isda")
    covariance = getattr(own, "covariance", None)
    # One matrix of all features is of a type of its own.
    return covariance.matrix if type(covariance) is Full else None


def estimated(features: jax.Array, label: jax.Array, classes: int) -> jax.Array:
    """The covariances `[C, A, A]` of features `[N, A]` by their classes `[N]`, divided by n.

    Example:
      >>> x = jnp.array([[1.0], [3.0], [5.0]])
      >>> print(estimated(x, jnp.array([0, 0, 1]), classes=2).ravel())
      [1. 0.]
    """
    empty = rj.statistics.init(classes, features.shape[-1])
    found = rj.statistics.update(empty, features, jax.nn.one_hot(label, classes))
    assert isinstance(found.covariance, Full)
    return found.covariance.matrix


def alternatives(matrix: jax.Array) -> Mapping[str, jax.Array]:
    """Covariances of each class `[C, A, A]`, by the name of what they show.

    Args:
      matrix: of each class, `[C, A, A]`.

    Returns:
      These; multiples of the identity, and the next class's, both of the class's own trace, so that
      features are moved as far.

    Example:
      >>> print(alternatives(jnp.array([[[1.0, 0.0], [0.0, 3.0]]]))["random directions"][0, 0])
      [2. 0.]
    """
    size = jnp.trace(matrix, axis1=1, axis2=2)[:, None, None]
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)[None] / matrix.shape[-1]
    following, theirs = jnp.roll(matrix, -1, 0), jnp.roll(size, -1, 0)
    other = following * size / jnp.where(theirs > 0, theirs, 1)
    return {OWN: matrix, RANDOM: size * eye, OTHER: other}


def draw(
    key: jax.Array, matrix: jax.Array, label: jax.Array, *, strength: float, draws: int
) -> jax.Array:
    """Moves `e ~ N(0, strength Sigma_y)` of features, `[M, N, A]`.

    Args:
      key: of the draws; the same one draws the same standard normal numbers.
      matrix: Sigma of each class, `[C, A, A]`.
      label: `[N]`.
      strength: lambda.
      draws: M, of each example.

    Example:
      >>> cov, label = jnp.eye(3)[None], jnp.zeros(5, jnp.int32)
      >>> draw(jax.random.key(0), cov, label, strength=0.5, draws=2).shape
      (2, 5, 3)
    """
    roots = jax.lax.map(root, matrix)
    shape = draws, len(label), matrix.shape[-1]
    normal = jax.random.normal(key, shape, matrix.dtype)
    return strength**0.5 * jnp.einsum("nab,mnb->mna", roots[label], normal)
