"""A network as a pure function of its input, whatever library it was written in."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from regjax.core.outputs import GetHead, Head, Outputs
from regjax.core.tap_calls import Tap, TapCalls


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Forward:
    """A model bound to its parameters: a pure function of the input, and a pytree.

    `forward(x, key, tap=...)` runs it. The same key gives the same dropout masks, no key switches
    dropout off. `tap(layer, h) -> h` may replace what flows through the named layers. Gradients
    with respect to the parameters go through `forward.replace(params=params)`.

    Made by `regjax.from_function` and `regjax.flax.bind`.

    Attributes:
      params: the pytree of the trainable arrays.
      state: the pytree of the model's statistics (BatchNorm's running averages), `()` without any.
      apply: the function `(params, state, x, key, tap, frozen) -> Outputs`.
      get_head: the function `params -> (kernel, bias)`, or None.
      get_auxiliary: the functions `params -> (kernel, bias)`, one for each auxiliary head.
      layers: the names of the layers that a tap can reach; `"input"` is always among them.
      is_frozen: whether BatchNorm uses its running averages.
      taps: the taps that `with_tap` added.
    """

    params: Any
    state: Any
    apply: Callable[..., Outputs] = dataclasses.field(metadata={"static": True})
    get_head: GetHead | None = dataclasses.field(default=None, metadata={"static": True})
    layers: tuple[str, ...] = dataclasses.field(default=("input",), metadata={"static": True})
    is_frozen: bool = dataclasses.field(default=False, metadata={"static": True})
    taps: tuple[Tap, ...] = dataclasses.field(default=(), metadata={"static": True})
    get_auxiliary: tuple[GetHead, ...] = dataclasses.field(default=(), metadata={"static": True})

    def __call__(
        self, x: jax.Array, key: jax.Array | None = None, *, tap: Tap | None = None
    ) -> Outputs:
        """Runs the network on `x [B, ...]`."""
        taps = self.taps if tap is None else (*self.taps, tap)
        calls = TapCalls()

        def chain(layer: str, h: jax.Array) -> jax.Array:
            calls.add(layer)
            for each in taps:
                h = each(layer, h)
            return h

        x = chain("input", x)
        run = chain if taps else None
        outputs = self.apply(self.params, self.state, x, key, run, self.is_frozen)

        def network(x: jax.Array, tap: Tap) -> Any:
            return self.apply(self.params, self.state, x, key, tap, self.is_frozen).logits

        tapped = {layer for each in self.taps for layer in _layers_of(each)}
        calls.check(tapped, network, x, self.layers)
        return outputs

    def __repr__(self) -> str:
        """Returns the arrays' shapes; the numbers are in `params` and `state`."""
        parts = {"params": self.params, "state": self.state}
        shapes = [f"  {kind} {line}" for kind, tree in parts.items() for line in _shapes(tree)]
        size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.params))
        return "\n".join([f"Forward of {size:,} parameters", *shapes, f"  layers: {self.layers}"])

    @property
    def head(self) -> Head | None:
        """The last linear layer, or None where none was named."""
        return None if self.get_head is None else Head(*self.get_head(self.params))

    @property
    def auxiliary_heads(self) -> tuple[Head, ...]:
        """The linear layers of the auxiliary heads, in the order of `Outputs.auxiliary`."""
        return tuple(Head(*get(self.params)) for get in self.get_auxiliary)

    def parameter(self, path: str) -> jax.Array:
        """The array of a path among the parameters, which need not be one that the model uses.

        Args:
          path: such as `"head.kernel"`.

        Returns:
          The array.

        Raises:
          ValueError: there is none.

        Example:
          >>> import jax.numpy as jnp, regjax as rj
          >>> params = {"scale": jnp.ones(2)}
          >>> rj.from_function(lambda params, x: x, params).parameter("scale")
          Array([1., 1.], dtype=float32)
        """
        leaves = jax.tree_util.tree_leaves_with_path(self.params)
        known = {jax.tree_util.keystr(p, simple=True, separator="."): leaf for p, leaf in leaves}
        if path not in known:
            raise ValueError(
                f"the network has no parameter {path!r}; its parameters are {sorted(known)}."
            )
        return known[path]

    def replace(self, **changes: Any) -> Forward:
        """The same network with other `params` or `state`."""
        return dataclasses.replace(self, **changes)

    def frozen(self) -> Forward:
        """The same network with BatchNorm's running averages in place of the batch's own."""
        return self.replace(is_frozen=True)

    def after(self, prepare: Callable[[jax.Array], jax.Array]) -> Forward:
        """The network whose input is `x`, and which sees `prepare(x)`.

        With a normalisation for `prepare`, what is said of the input is said of pixels: the bounds
        and sizes of attacks, the scale of noise. The layer `"input"` is then `x`; all other layers,
        the parameters and the head stay. Equal functions are not compiled again, and partial
        functions (`functools.partial`) are equal where their hashable parts are.

        Args:
          prepare: `[B, ...] -> [B, ...]`, differentiable, of each example by itself.

        Returns:
          A `Forward`.

        Raises:
          ValueError: `with_tap` reached `"input"` before, which would now be another array.

        Example:
          >>> import jax.numpy as jnp, regjax as rj
          >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
          >>> forward.after(lambda x: (x - 0.5) / 0.25)(jnp.ones((1, 2))).logits
          Array([[2., 2.]], dtype=float32)
        """
        if any("input" in _layers_of(tap) for tap in self.taps):
            raise ValueError(
                "after() changes what the layer 'input' is, and a tap reaches it already: call "
                "after() first, and with_tap() on what it returns."
            )
        return self.replace(apply=_After(self.apply, _comparable(prepare)))

    def with_tap(self, tap: Tap, *, layers: tuple[str, ...]) -> Forward:
        """The same network with `tap(layer, h) -> h` in the named layers.

        Args:
          tap: called with the layer's name and its output, returns what replaces the output.
          layers: names out of `forward.layers`.

        Returns:
          A `Forward` for use inside the current trace (it holds `tap`, a Python function).

        Raises:
          TypeError: `layers` is one string.
          ValueError: a layer is unknown; where the network runs, it calls one of them never or
            more than once, inside a loop, a branch or a vmap of its own, or gets no single array
            from it.

        Example:
          >>> import jax.numpy as jnp, regjax as rj
          >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
          >>> doubled = forward.with_tap(lambda layer, h: 2 * h, layers=("input",))
          >>> doubled(jnp.ones((1, 2))).logits
          Array([[2., 2.]], dtype=float32)
        """
        check_names(layers)
        unknown = sorted(set(layers) - set(self.layers))
        if unknown:
            raise ValueError(
                f"unknown layers {unknown}: this network's layers are {list(self.layers)}."
            )
        chosen = frozenset(layers)

        def only_chosen(layer: str, h: jax.Array) -> jax.Array:
            return tap(layer, h) if layer in chosen else h

        only_chosen.layers = chosen  # type: ignore[attr-defined]
        return self.replace(taps=(*self.taps, only_chosen))


def _shapes(tree: Any) -> list[str]:
    return [
        f"{jax.tree_util.keystr(path, simple=True, separator='.')}: "
        f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _layers_of(tap: Tap) -> frozenset[str]:
    """The layers that `with_tap` was given for a tap."""
    return getattr(tap, "layers", frozenset())


def check_names(layers: tuple[str, ...], argument: str = "layers", example: str = "input") -> None:
    """Refuses anything but a tuple; a string would be a sequence of names too."""
    if not isinstance(layers, tuple):
        given = repr(layers)
        if isinstance(layers, str):
            given, example = "a string", layers
        raise TypeError(
            f"{argument} must be a tuple of names, such as ({example!r},), not {given}."
        )


@dataclasses.dataclass(frozen=True)
class _After:
    """`Forward.apply` behind a function of the input; equal for equal functions."""

    apply: Callable[..., Outputs]
    prepare: Callable[[jax.Array], jax.Array]

    def __call__(self, params: Any, state: Any, x: jax.Array, *rest: Any) -> Outputs:
        return self.apply(params, state, self.prepare(x), *rest)


@dataclasses.dataclass(frozen=True)
class _Partial:
    """`functools.partial`, which is equal to itself only, as a value."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(*self.args, x, **dict(self.keywords))


def _comparable(function: Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(function, functools.partial):
        return function
    value = _Partial(function.func, function.args, tuple(sorted(function.keywords.items())))
    try:
        hash(value)
    except TypeError:  # arrays and lists have no hash
        return function
    return value
