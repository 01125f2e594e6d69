"""A network out of a pure function, with a state of its own or without."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax

from regjax.core.forward import Forward, check_names
from regjax.core.model_state import kept
from regjax.core.outputs import GetHead, Outputs, read_output
from regjax.core.tap_calls import Tap


def from_function(
    fn: Callable[..., Any],
    params: Any,
    head: GetHead | None = None,
    layers: tuple[str, ...] = (),
    *,
    auxiliary: tuple[GetHead, ...] = (),
    state: Any = None,
) -> Forward:
    """A `Forward` of a pure function.

    Args:
      fn: `fn(params, x) -> logits`, or `-> (logits, features)`, or `-> (logits, features,
        auxiliary)` with a tuple of the auxiliary heads' logits, or `(logits, features)`. It may
        take a keyword `key` (drives its randomness, None switches it off) and a keyword `tap`, a
        function that it calls as `h = tap("name", h)` at every layer that it names in `layers`; the
        layer `"input"` is tapped before `fn` is called. With a state it is `fn(params, state, x,
        frozen) -> (any of these, next state)`.
      params: pytree of arrays.
      head: `params -> (kernel [A, C], bias [C])` of the last linear layer, for losses that need it.
      layers: the names with which `fn` calls `tap`.
      auxiliary: `params -> (kernel, bias)` of each auxiliary head, for losses that need it.
      state: pytree of the model's statistics, such as BatchNorm's averages, which `fn` then takes
        and returns, and a keyword `frozen`, whether it must use the averages, as in evaluation;
        None where there is none. What a frozen call returns as the next state is left alone.

    Returns:
      A `Forward`; without statistics its `state` is `()`.

    Raises:
      TypeError: `layers` is one string; at trace time, `fn` returns something else.
      ValueError: `layers` are named but `fn` takes no `tap`, or there is a state and it takes no
        `frozen`; at trace time, `fn` calls `tap` with a name that is not in `layers`, or its state
        changes its shape.

    Example:
      >>> import jax.numpy as jnp, regjax as rj
      >>> def linear(params, x):
      ...     return x @ params["kernel"] + params["bias"]
      >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
      >>> rj.from_function(linear, params)(jnp.ones((4, 3))).logits.shape
      (4, 2)
      >>> def centred(params, mean, x, frozen):
      ...     mean = mean if frozen else 0.9 * mean + 0.1 * x.mean(0)
      ...     return (x - mean) @ params, mean
      >>> network = rj.from_function(centred, jnp.ones((3, 2)), state=jnp.zeros(3))
      >>> network(jnp.ones((4, 3))).state
      Array([0.1, 0.1, 0.1], dtype=float32)
    """
    check_names(layers)
    takes = frozenset(inspect.signature(fn).parameters) & {"key", "tap", "frozen"}
    if layers and "tap" not in takes:
        raise ValueError(
            f"layers {list(layers)} are named, but the function takes no keyword 'tap' to reach "
            "them: write fn(params, x, tap) and call h = tap(name, h) in each."
        )
    if state is not None and "frozen" not in takes:
        raise ValueError(
            "the model has a state, but the function takes no keyword 'frozen' that says when to "
            "use it as it is: write fn(params, state, x, frozen) and return (logits, next state)."
        )
    apply = _Apply(fn, takes, tuple(layers), has_state=state is not None)
    own = () if state is None else state
    return Forward(params, own, apply, head, ("input", *layers), get_auxiliary=auxiliary)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """`Forward.apply` of a pure function; equal for equal functions, so that nothing recompiles."""

    fn: Callable[..., Any]
    takes: frozenset[str]
    layers: tuple[str, ...]
    has_state: bool

    def __call__(
        self, params: Any, state: Any, x: jax.Array, key: Any, tap: Tap | None, frozen: bool
    ) -> Outputs:
        def checked_tap(layer: str, h: jax.Array) -> jax.Array:
            if layer not in self.layers:
                raise ValueError(
                    f"the function calls tap({layer!r}, ...), but its layers are "
                    f"{list(self.layers)}: name it in from_function(..., layers=...)."
                )
            return h if tap is None else tap(layer, h)

        extra = {"key": key, "tap": checked_tap, "frozen": frozen}
        keywords = {name: extra[name] for name in self.takes}
        if not self.has_state:
            return read_output(self.fn(params, x, **keywords))._replace(state=state)
        returned = self.fn(params, state, x, **keywords)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                "a function with a state must return (logits, next state), or ((logits, features), "
                f"next state), but it returned a {type(returned).__name__}."
            )
        out, following = returned
        return read_output(out)._replace(state=state if frozen else kept(state, following))
