"""From a Flax model, NNX or Linen, to a `Forward`; the model need not know of it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from regjax.core.forward import Forward, Tap, check_names
from regjax.core.model_state import kept, shapes
from regjax.core.modes import check_modes
from regjax.core.outputs import Branch, Head, Outputs, read_output

# Of the layers that are heads, the input and the output of each call, by name.
Seen = dict[str, tuple[jax.Array | None, Any]]
# What runs around a submodule's call: (call, its arguments, its keywords) -> output.
Hook = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def bind(
    model: nnx.Module | linen.Module,
    variables: Mapping[str, Any] | None = None,
    *,
    head: str | None = None,
    auxiliary: tuple[str, ...] = (),
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
        input becomes `outputs.features`, None where it is called more than once.
      auxiliary: paths of the auxiliary heads, linear layers or 1 x 1 convolutions; their inputs and
        outputs become `outputs.auxiliary`, unless the model itself returns what they are to be.
      training: Linen only: keywords of the call in training, such as `{"train": True}`.
      frozen: Linen only: keywords of the call with running averages, such as `{"train": False}`.
      rngs: Linen only: the random streams that the model draws from.

    Returns:
      A `Forward`; the model may return logits, or `(logits, features)`, or `(logits, features,
      auxiliary)` with a tuple of logits, such as an auxiliary head's output at the image's size, or
      of `(logits, features)`. Features that are None are the input of the head.

    Raises:
      TypeError: the model is neither, variables are missing or not wanted, or a Linen module's call
        takes more than `x` and `training` or `frozen` does not say what; at trace time, the model
        returns something else, or `auxiliary` is one string.
      ValueError: there is no layer of a head's name, or it is not linear; at trace time, the model
        returns, or calls, some of the auxiliary heads and not all.

    Example:
      >>> import regjax.flax as rf
      >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
      >>> rf.bind(model)(jnp.ones((4, 3))).logits.shape
      (4, 2)
    """
    check_names(auxiliary, "auxiliary")
    heads = _Heads(head, auxiliary)
    if isinstance(model, nnx.Module):
        if variables is not None or training is not None or frozen is not None:
            raise TypeError("an NNX module holds its variables and mode: pass bind the model.")
        return _bind_nnx(model, heads)
    if isinstance(model, linen.Module):
        if variables is None:
            raise TypeError("a Linen module needs its variables: bind(model, model.init(key, x)).")
        check_modes(type(model), training, frozen)
        return _bind_linen(model, variables, heads, dict(training or {}), dict(frozen or {}), rngs)
    raise TypeError(f"bind takes a Flax NNX or Linen module, but was given {type(model).__name__}.")


def update(model: nnx.Module, forward: Forward) -> None:
    """The way back: writes a `Forward`'s parameters and statistics into the NNX model.

    Args:
      model: what was bound, or another of its shape; it is changed.
      forward: what `bind(model)` returned, with the parameters and the state of after training.

    Raises:
      ValueError: the parameters or statistics are not those of such a model.

    Example:
      >>> import regjax.flax as rf
      >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
      >>> forward = rf.bind(model)
      >>> rf.update(model, forward.replace(params=jax.tree.map(jnp.ones_like, forward.params)))
      >>> print(model.bias[...])
      [1. 1.]
    """
    fresh = bind(model)
    for kind in ("params", "state"):
        own, given = getattr(fresh, kind), getattr(forward, kind)
        if shapes(own) != shapes(given):
            raise ValueError(
                f"the {kind} of the Forward are not those of this {type(model).__name__}: give "
                "update the model that was bound, or one that was made like it."
            )
    # Copies, so that a step that donates its arguments leaves the model alone.
    for tree in (forward.params, forward.state):
        nnx.update(model, jax.tree.map(jnp.copy, tree))


@dataclasses.dataclass(frozen=True)
class _Heads:
    """The paths of the linear layers that end in logits."""

    main: str | None
    auxiliary: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.auxiliary if self.main is None else (self.main, *self.auxiliary)

    def forward(
        self, params: Any, state: Any, apply: Callable[..., Outputs], names: tuple[str, ...]
    ) -> Forward:
        for name in self.names:
            if name not in names:
                raise ValueError(
                    f"there is no layer {name!r} to be the head: layers are {list(names)}."
                )
            _head(name, params)
        get = {name: functools.partial(_head, name) for name in self.names}
        return Forward(
            params,
            state,
            apply,
            None if self.main is None else get[self.main],
            ("input", *names),
            get_auxiliary=tuple(get[name] for name in self.auxiliary),
        )

    def outputs(self, out: Any, seen: Seen) -> Outputs:
        """What the model returned, and for what it left out, the heads' inputs and outputs."""
        outputs = read_output(out)
        if outputs.features is None and self.main in seen:
            outputs = outputs._replace(features=seen[self.main][0])
        called = [Branch(seen[n][1], seen[n][0]) for n in self.auxiliary if n in seen]
        branches = outputs.auxiliary or tuple(called)
        if self.auxiliary and branches and not len(branches) == len(called) == len(self.auxiliary):
            raise ValueError(
                f"the model has the auxiliary heads {list(self.auxiliary)}, of which it calls "
                f"{len(called)} and returns {len(outputs.auxiliary)}: all, or none, must be there."
            )
        return outputs._replace(auxiliary=tuple(map(_completed, branches, called or branches)))


def _completed(branch: Branch, called: Branch) -> Branch:
    return branch if branch.features is not None else branch._replace(features=called.features)


def _bind_nnx(model: nnx.Module, heads: _Heads) -> Forward:
    model = nnx.clone(model)
    nnx.pop(model, nnx.Intermediate)  # what earlier calls sowed, which would grow with each call
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
        seen: Seen = {}
        for path, module in list(nnx.iter_modules(merged)):
            if path and (tap is not None or _name(path) in heads.names):
                _intercept(module, _hook(_name(path), tap, heads, seen))
        out = merged(x)
        updated = nnx.to_pure_dict(nnx.state(merged, nnx.Not(nnx.Any(nnx.Param, nnx.RngState))))
        return heads.outputs(out, seen)._replace(state=state if frozen else kept(state, updated))

    # Copies, so that a step that donates its arguments leaves the caller's model alone.
    own = jax.tree.map(jnp.copy, (nnx.to_pure_dict(params), nnx.to_pure_dict(state)))
    return heads.forward(own[0], own[1], apply, layers)


def _bind_linen(
    model: linen.Module,
    variables: Mapping[str, Any],
    heads: _Heads,
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
    own.pop("intermediates", None)  # what an earlier call sowed

    def apply(
        params: Any, state: Any, x: jax.Array, key: jax.Array | None, tap: Tap | None, frozen: bool
    ) -> Outputs:
        seen: Seen = {}

        def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            name = _name(context.module.path)
            if context.method_name != "__call__" or not name:
                return call(*args, **kwargs)
            if key is None and isinstance(context.module, linen.Dropout):
                return _first(args, kwargs)
            return _hook(name, tap, heads, seen)(call, args, kwargs)

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
        following = state if frozen else kept(state, {**state, **updated})
        return heads.outputs(out, seen)._replace(state=following)

    paths = jax.tree_util.tree_leaves_with_path(params)
    names = [tuple(jax.tree_util.keystr((k,), simple=True) for k in path) for path, _ in paths]
    modules = {_name(name[:n]) for name in names for n in range(1, len(name))}
    return heads.forward(params, own, apply, tuple(sorted(modules)))


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


def _hook(name: str, tap: Tap | None, heads: _Heads, seen: Seen) -> Hook:
    def hook(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = call(*args, **kwargs)
        out = tap(name, out) if tap is not None and isinstance(out, jax.Array) else out
        if name in heads.names:  # of a head that is called again there is not one input
            seen[name] = (_first(args, kwargs) if name not in seen else None, out)
        return out

    return hook


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A layer's input, given by position or by keyword."""
    return args[0] if args else next(iter(kwargs.values()))


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
