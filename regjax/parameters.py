"""Penalties on the parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from regjax.core.forward import Forward
from regjax.core.precision import wide
from regjax.core.stages import penalty


def penalized_arrays(params: Any, exclude: tuple[str, ...] | None = None) -> list[jax.Array]:
    """The arrays of a pytree that `l1` and `l2` act on.

    Args:
      params: pytree of arrays.
      exclude: parts of paths such as `("bias", "head")`; an array is left out if any part of its
        path is among them. None leaves out the arrays with fewer than two axes, which are the
        biases and BatchNorm's scales whatever their names; `()` leaves out nothing.

    Returns:
      The arrays, in the pytree's order.

    Raises:
      TypeError: `exclude` is not a tuple.
      ValueError: a name in `exclude` is in no path.

    Example:
      >>> params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
      >>> [w.shape for w in penalized_arrays(params)]
      [(2, 3)]
    """
    if not isinstance(exclude, tuple | None):
        raise TypeError(f"exclude must be None or a tuple of names, but it is {exclude!r}.")
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if exclude is None:
        return [array for _, array in leaves if array.ndim >= 2]
    parts = [_parts(path) for path, _ in leaves]
    unknown = sorted(set(exclude) - set().union(*parts))
    if unknown:
        raise ValueError(
            f"exclude names {unknown}, but the parameters' paths are made of "
            f"{sorted(set().union(*parts))}."
        )
    return [array for (_, array), own in zip(leaves, parts, strict=True) if not own & set(exclude)]


def _parts(path: tuple[Any, ...]) -> set[str]:
    return {jax.tree_util.keystr((entry,), simple=True) for entry in path}


@penalty
def l1(forward: Forward, *, exclude: tuple[str, ...] | None = None) -> jax.Array:
    """The absolute values of the parameters, as a penalty.

    `sum |w|`. See the thesis, eq. (27).

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      exclude: None leaves out biases and BatchNorm's scales; see `penalized_arrays`.

    Returns:
      A `Loss` with a scalar penalty.

    Raises:
      ValueError: at trace time, a name in `exclude` is in no parameter's path.

    Example:
      >>> import regjax as rj
      >>> rj.l1(rj.cross_entropy(), weight=1e-4)
      cross_entropy | l1(weight=0.0001)
    """
    arrays = penalized_arrays(forward.params, exclude)
    # Not abs: its derivative at zero is 1 in JAX, which would push zeros.
    return sum((jnp.sum(wide(w) * jnp.sign(wide(w))) for w in arrays), jnp.zeros(()))


@penalty
def l2(forward: Forward, *, exclude: tuple[str, ...] | None = None) -> jax.Array:
    """The squares of the parameters, as a penalty.

    `sum w^2`, without a factor one half. See the thesis, eqs. (28) and (30).

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda; under plain gradient descent with rate r, parameters shrink by
        `1 - 2 r lambda` a step.
      exclude: None leaves out biases and BatchNorm's scales; see `penalized_arrays`.

    Returns:
      A `Loss` with a scalar penalty.

    Raises:
      ValueError: at trace time, a name in `exclude` is in no parameter's path.

    Example:
      >>> import regjax as rj
      >>> rj.l2(rj.cross_entropy(), weight=1e-4, exclude=("bias",))
      cross_entropy | l2(weight=0.0001, exclude=('bias',))
    """
    arrays = penalized_arrays(forward.params, exclude)
    return sum((jnp.sum(wide(w) ** 2) for w in arrays), jnp.zeros(()))
