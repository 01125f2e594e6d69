"""What of a model's variables is its state: what was there when it was bound."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def kept(bound: Any, updated: Any) -> Any:
    """The updated state, in the structure of the bound one.

    Args:
      bound: the pytree of the state that the model was run with.
      updated: what the model made of it; in its dicts, names that are not bound are left out.

    Returns:
      A pytree like `bound`.

    Raises:
      ValueError: an array is missing or has another shape, and would have another every step.
    """
    updated = _with_names_of(bound, updated)
    before, after = (shapes(tree) for tree in (bound, updated))
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    if changed:
        name = changed[0]
        raise ValueError(
            f"the model's state must keep its shapes, but {name or 'it'} was "
            f"{before.get(name, 'not there')} and is {after.get(name, 'not there')} after a call: "
            "leave what a model collects from call to call out of its state (of NNX, by "
            "nnx.pop(model, its type) before bind; of Linen, out of the variables)."
        )
    return updated


def _with_names_of(bound: Any, updated: Any) -> Any:
    if not isinstance(bound, dict) or not isinstance(updated, dict):
        return updated
    return {k: _with_names_of(v, updated[k]) for k, v in bound.items() if k in updated}


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of a tree's arrays, for what is said of them.

    Args:
      tree: of arrays.

    Returns:
      Each shape by its path, such as "layers.0.kernel".
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.shape(leaf)
        for path, leaf in leaves
    }
