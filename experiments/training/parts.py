"""Learning rates by part of the network, as a link of an optimizer's expression.

optimizer = "sgd(momentum=0.9) | by_part(parts={'head': 10.0, 'blocks.0': 0.1})"
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import optax

NAME, EXAMPLE = "by_part", "by_part(parts={'head': 10.0})"


def by_part(parts: Mapping[str, float]) -> optax.GradientTransformation:
    """Updates that are multiplied by a factor for each part of the network.

    Args:
      parts: factors by name, the path of a module or a parameter, joined by dots; of names that
        lead to the same parameter the longest counts, and what none of them leads to stays.

    Returns:
      A transformation whose `init` raises ValueError for a part that the network does not have.

    Raises:
      ValueError: `parts` is not a dict of factors.

    Example:
      `optax.chain(optax.adam(1e-3), by_part({"head": 10.0, "blocks.0": 0.0}))`
    """
    if not isinstance(parts, Mapping) or not parts or not all(map(_is_factor, parts.values())):
        raise ValueError(
            f"by_part needs parts=, a dict of factors by part of the network that are not "
            f"negative, such as {EXAMPLE}, not {parts!r}."
        )

    def init(params: Any) -> optax.EmptyState:
        _check(parts, [_name(path) for path, _ in jax.tree.leaves_with_path(params)])
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def scaled(path: Any, update: jax.Array) -> jax.Array:
            return update * _factor(parts, _name(path))

        return jax.tree.map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _factor(parts: Mapping[str, float], name: str) -> float:
    return next((float(parts[part]) for part in reversed(_leading_to(name)) if part in parts), 1.0)


def _leading_to(name: str) -> list[str]:
    """A parameter's name and those of the modules that it is in, from the outermost on."""
    steps = name.split(".")
    return [".".join(steps[: i + 1]) for i in range(len(steps))]


def _check(parts: Iterable[Any], names: Iterable[str]) -> None:
    known = list(dict.fromkeys(part for name in names for part in _leading_to(name)))
    for part in parts:
        if part not in known:
            inside = max((k for k in known if str(part).startswith(f"{k}.")), key=len, default="")
            beside = [k for k in known if k.rpartition(".")[0] == inside]
            raise ValueError(
                f"by_part names {part!r}, which is no part of the network; "
                f"{f'in {inside!r}' if inside else 'there'} are: {', '.join(beside)}."
            )
