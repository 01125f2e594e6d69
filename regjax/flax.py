"""From a Flax model, NNX or Linen, to a `Forward`; the model need not know of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from regjax.core.forward import Forward, Head, Outputs, Tap, split_output

# What runs around a submodule's call: (call, its arguments, its keywords) -> output.
Hook = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def bind(
    model: nnx.Module | linen.Module,
    variables: Mapping[str, Any] | None = None,
    *,
    head: str | None = None,
    training: Mapping[str, Any] | None = None,
    frozen: Mapping[str, Any] | None = None,
    rngs: tuple[str, ...] = ("dropout",),
) -> Forward:
    """A `Forward` of a Flax model, with every submodule as a named layer.

    `forward.params`, `forward.state` (BatchNorm's averages) and `forward.apply` are pure: the model
    itself is never written to, and later changes to it are not seen. Layers are named by the
    module's own path, as in `"blocks.1"`, plus `"input"`. Bind once, and give the result other
    parameters by `forward.replace(params=...)`: each binding is compiled anew.

    Args:
      model: an NNX module, called as `model(x)`, as it stands (after `model.train()` or
        `model.eval()`); or a Linen module.
      variables: Linen's variables, as `model.init` returns them; None for NNX.
      head: path of the last linear layer, or of a 1 x 1 convolution for dense predictions; its
        input becomes `outputs.features`.
      training: Linen only: keywords of the call in training, such as `{"train": True}`.
      frozen: Linen only: keywords of the call with running averages, such as `{"train": False}`.
      rngs: Linen only: the random streams that the model draws from.

    Returns:
      A `Forward`; the model may return logits, or `(logits, features)`.

    Raises:
      TypeError: the model is neither, variables are missing or not wanted; at trace time, the model
        returns neither of the two.
      ValueError: there is no layer called `head`, or it is not linear.

    Example:
      >>> import regjax.flax as rf
      >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
      >>> rf.bind(model)(jnp.ones((4, 3))).logits.shape
      (4, 2)
    """
    if isinstance(model, nnx.Module):
        if variables is not None or training is not None or frozen is not None:
            raise TypeError("an NNX module holds its variables and mode: pass bind the model.")
        return _bind_nnx(model, head)
    if isinstance(model, linen.Module):
        if variables is None:
            raise TypeError("a Linen module needs its variables: bind(model, model.init(key, x)).")
        return _bind_linen(model, variables, head, dict(training or {}), dict(frozen or {}), rngs)
    raise TypeError(f"bind takes a Flax NNX or Linen module, but was given {type(model).__name__}.")


def _bind_nnx(model: nnx.Module, head: str | None) -> Forward:
    graph, *rest = nnx.split(model, nnx.Param, nnx.RngState, ...)
    params, rng, state = rest
    streams = jax.eval_shape(lambda: nnx.to_pure_dict(rng))
    layers = tuple(
        _name(path) for path, module in nnx.iter_modules(model) if path and callable(module)
    )

    def apply(
        params: Any, state: Any, x: jax.Array, key: jax.Array | None, tap: Tap | None, frozen: bool
    ) -> Outputs:
        merged = nnx.merge(graph, params, _seed(streams, key), state, copy=True)
        modes = {"use_running_average": True} if frozen else {}
        modes |= {"deterministic": True} if key is None else {}
        if modes:
            merged = nnx.view(merged, raise_if_not_found=False, **modes)
        seen: list[jax.Array] = []
        for path, module in list(nnx.iter_modules(merged)):
            if path and (tap is not None or _name(path) == head):
                _intercept(module, _hook(_name(path), tap, head, seen))
        out = merged(x)
        updated = nnx.to_pure_dict(nnx.state(merged, nnx.Not(nnx.Any(nnx.Param, nnx.RngState))))
        return _outputs(out, seen, state if frozen else updated)

    # Copies, so that a step that donates its arguments leaves the caller's model alone.
    own = jax.tree.map(jnp.copy, (nnx.to_pure_dict(params), nnx.to_pure_dict(state)))
    return _forward(own[0], own[1], apply, head, layers)


def _bind_linen(
    model: linen.Module,
    variables: Mapping[str, Any],
    head: str | None,
    training: dict[str, Any],
    frozen_call: dict[str, Any],
    streams: tuple[str, ...],
) -> Forward:
    if "params" not in variables:
        raise TypeError(
            "variables must be all that model.init(key, x) returned, with 'params' among them, but "
            f"they hold {sorted(variables)}."
        )
    own = jax.tree.map(jnp.copy, dict(variables))
    params = own.pop("params")

    def apply(
        params: Any, state: Any, x: jax.Array, key: jax.Array | None, tap: Tap | None, frozen: bool
    ) -> Outputs:
        seen: list[jax.Array] = []

        def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            name = _name(context.module.path)
            if context.method_name != "__call__" or not name:
                return call(*args, **kwargs)
            if key is None and isinstance(context.module, linen.Dropout):
                return _first(args, kwargs)
            return _hook(name, tap, head, seen)(call, args, kwargs)

        keys = (
            {}
            if key is None
            else dict(zip(streams, jax.random.split(key, len(streams)), strict=True))
        )
        with linen.intercept_methods(interceptor):
            out, updated = model.apply(
                {"params": params, **state},
                x,
                rngs=keys,
                mutable=[] if frozen else list(state),
                **(frozen_call if frozen else training),
            )
        return _outputs(out, seen, state if frozen else {**state, **updated})

    paths = jax.tree_util.tree_leaves_with_path(params)
    names = [tuple(jax.tree_util.keystr((k,), simple=True) for k in path) for path, _ in paths]
    modules = {_name(name[:n]) for name in names for n in range(1, len(name))}
    return _forward(params, own, apply, head, tuple(sorted(modules)))


def _forward(
    params: Any, state: Any, apply: Callable[..., Outputs], head: str | None, names: tuple[str, ...]
) -> Forward:
    if head is None:
        return Forward(params, state, apply, layers=("input", *names))
    if head not in names:
        raise ValueError(f"there is no layer {head!r} to be the head: layers are {list(names)}.")
    _head(head, params)
    return Forward(params, state, apply, functools.partial(_head, head), ("input", *names))


def _head(head: str, params: Any) -> Head:
    layer = params
    for part in head.split("."):
        layer = {str(name): value for name, value in layer.items()}.get(part, {})
    kernel = layer.get("kernel")
    if kernel is None or kernel.ndim < 2 or math.prod(kernel.shape[:-2]) != 1:
        raise ValueError(
            f"the head {head!r} must be a linear layer with a kernel [A, C], or a convolution of "
            "one pixel, for dense predictions."
        )
    return Head(kernel.reshape(kernel.shape[-2:]), layer.get("bias"))


def _hook(name: str, tap: Tap | None, head: str | None, seen: list[jax.Array]) -> Hook:
    def hook(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if name == head:
            seen.append(_first(args, kwargs))
        out = call(*args, **kwargs)
        return tap(name, out) if tap is not None and isinstance(out, jax.Array) else out

    return hook


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A layer's input, given by position or by keyword."""
    return args[0] if args else next(iter(kwargs.values()))


def _outputs(out: Any, seen: list[jax.Array], state: Any) -> Outputs:
    logits, features = split_output(out)
    return Outputs(logits, seen[-1] if features is None and seen else features, state)


def _intercept(module: nnx.Module, hook: Hook) -> None:
    # Python looks __call__ up on the class, so the (merged, hence private) module gets a subclass.
    object.__setattr__(module, "__class__", _hooked(type(module)))
    module._regjax_hook = hook  # type: ignore[attr-defined]


@functools.cache
def _hooked(cls: type[nnx.Module]) -> type[nnx.Module]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._regjax_hook(functools.partial(cls.__call__, self), args, kwargs)

    return type(cls.__name__, (cls,), {"__call__": call})


def _seed(streams: Any, key: jax.Array | None) -> Any:
    """Random states of their own for every stream, so that no two layers share a mask."""
    root = jax.random.key(0) if key is None else key
    if not jnp.issubdtype(root.dtype, jax.dtypes.prng_key):
        root = jax.random.wrap_key_data(root)
    leaves, structure = jax.tree.flatten(streams)
    seeded = [
        jax.random.split(jax.random.fold_in(root, i), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, seeded)


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
