"""How often a tapped layer runs, which inside a loop is not how often it is traced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import get_opaque_trace_state

Tap = Callable[[str, jax.Array], jax.Array]

_MARK = "regjax layer "
# What runs its body as often as it likes; jit, remat and custom derivatives run theirs once.
_REPEATING = ("scan", "while", "cond")


class TapCalls:
    """The layers that a network called a tap for, in the order of the calls."""

    def __init__(self) -> None:
        """Nothing is called yet; calls in the present trace are the network's own."""
        self._outside = get_opaque_trace_state()
        self._names: list[str] = []
        self._nested: set[str] = set()

    def add(self, layer: str) -> None:
        """Notes a call."""
        self._names.append(layer)
        if get_opaque_trace_state() != self._outside:
            self._nested.add(layer)

    def check(
        self,
        layers: Iterable[str],
        network: Callable[[jax.Array, Tap], Any],
        x: jax.Array,
        known: tuple[str, ...],
    ) -> None:
        """Refuses layers that do not run exactly once.

        Args:
          layers: the names of the layers.
          network: `(x, tap) -> anything`, traced once more where a layer was called inside another
            trace.
          x: the input of the network.
          known: the names of all layers.

        Raises:
          ValueError: a layer was called never or more than once, or inside a loop, a branch, or a
            vmap of the network's own.
        """
        chosen = sorted(layers)
        transforms = _transforms(network, x) if self._nested & set(chosen) else {}
        for layer in chosen:
            around = transforms.get(layer, []) if layer in self._nested else None
            count = self._names.count(layer) if around is None else len(around)
            if count != 1:
                raise ValueError(
                    f"the layer {layer!r} was to be tapped once, but the network got an array from "
                    f"it {count} times: choose another of {list(known)}."
                )
            if around and around[0]:
                raise ValueError(
                    f"the layer {layer!r} was to be tapped once, but the network runs it inside "
                    f"{around[0]}, each time that this runs it: choose a layer outside, or let the "
                    "network call such layers one by one in a Python loop, each with a name of its "
                    "own."
                )


def _transforms(network: Callable[[jax.Array, Tap], Any], x: jax.Array) -> dict[str, list[str]]:
    """What repeats each call of a layer, `""` where nothing does."""
    shapes: dict[str, tuple[int, ...]] = {}

    def mark(layer: str, h: jax.Array) -> jax.Array:
        shapes[layer] = h.shape
        return checkpoint_name(h, _MARK + layer)

    program = jax.make_jaxpr(lambda x: network(x, mark))(x)
    found: dict[str, list[str]] = {}
    for name, shape, around in _marks(program, ""):
        # Under vmap, an array has an axis that the layer does not see.
        found.setdefault(name, []).append(around or ("vmap" if shape != shapes[name] else ""))
    return found


def _marks(program: Any, around: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """The marks in a jaxpr: of which layer, of which shape, and inside what."""
    for equation in program.eqns:
        kind, params = equation.primitive.name, equation.params
        if kind == "name" and params["name"].startswith(_MARK):
            yield params["name"].removeprefix(_MARK), equation.outvars[0].aval.shape, around
        once = kind not in _REPEATING or params.get("length") == 1
        for inner in jax.tree.leaves(tuple(params.values())):
            if hasattr(inner, "eqns"):
                yield from _marks(inner, around if once else around or kind)
