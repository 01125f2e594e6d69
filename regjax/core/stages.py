"""The decorators that make stages of plain functions: `base`, `wrapper`, `penalty`.

A stage function asks for what it needs by the names of its positional parameters:

- `@base`: out of `outputs, batch, forward, network, view, key, state, part, step`; returns losses
  `[B]`.
- `@wrapper`: out of `forward, batch, key, state, part, step`; returns `(forward, batch)`.
- `@penalty`: out of `point, batch, forward, network, view, key, state, part, step, base, second`;
  returns `[B]` or a scalar, to which the decorator applies the keyword `weight`;
  `@penalty(over="unlabeled")`, one number for each example of `batch.unlabeled`, or a scalar.

`forward` is what the wrappers made of the network, `network` the network itself, for examples that
the wrappers do not know of, such as `batch.unlabeled`. `view(batch, key) -> (forward, batch)` puts
those through the loss's own wrappers, from the outside in and from `network` on, with draws of that
key: two keys give two views of an image. Wrappers with a state have no views and are refused.
`second` (`second.py`) is a first view of `batch.unlabeled` with the network's outputs, which all
who ask share; with an argument `averages="moved"` that pass moves BatchNorm's averages, after the
one over the batch. `base` is the base's arguments at this step, by name.

Its keyword-only parameters are the stage's arguments. Those annotated `Number`, `float` or
`jax.Array`, alone or in a union, or not annotated, are numbers: leaves of the loss's pytree, each a
float, an array or an optax schedule. All others are static and hashable. `Annotated[Number,
Range(0, 1)]` states what values a number may have (see `ranges.py`). A stage that asks for
`state` returns `(value, state)` and is declared with `init=`, a function
`(forward, batch, **arguments) -> state` that is given the same keywords as the stage's function,
schedules at step 0.

`part`, int32 `[]`, is the number of the part where a batch's gradient is accumulated over parts, 0
in the first and for whole batches. Who asks for it is given the state as the parts before left it,
and can so see a step once; all others are given, in every part, the state of the step's beginning,
and what the last part makes of it is kept.

`step`, int32 `[]`, is `LossState.step`, the number of the steps before, of which schedules are
functions; it is the same in all parts of a batch.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from regjax.core.definitions import REGISTRY, Definition, Number
from regjax.core.loss import Loss
from regjax.core.ranges import AtLeastZero, Count, Range, Share, Unbounded

__all__ = [
    "REGISTRY",
    "AtLeastZero",
    "Count",
    "Number",
    "Range",
    "Share",
    "Unbounded",
    "base",
    "penalty",
    "wrapper",
]

_INPUTS = {
    "base": ("outputs", "batch", "forward", "network", "view", "key", "state", "part", "step"),
    "wrapper": ("forward", "batch", "key", "state", "part", "step"),
    "penalty": (
        *("point", "batch", "forward", "network", "view", "key", "state", "part", "step"),
        *("base", "second"),
    ),
}


def _define(
    kind: str, function: Callable[..., Any], init: Any, over: str, begin: Any
) -> Definition:
    parameters = _parameters(function)
    inputs = tuple(n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY)
    arguments = {n: p for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    name = getattr(function, "__name__", repr(function))
    if not name.isidentifier():
        raise TypeError(f"expressions find stages by name, but {name} is none: define it by 'def'.")
    unknown = [given for given in inputs if given not in _INPUTS[kind]]
    if unknown:
        raise TypeError(
            f"the {kind} {name} asks for {unknown[0]!r}, but a {kind} is given "
            f"{', '.join(_INPUTS[kind])}; its own arguments must be keyword-only, after a '*'."
        )
    if ("state" in inputs) != (init is not None):
        raise TypeError(
            f"the {kind} {name} must ask for 'state' and be declared with init=, or neither: "
            f"@{kind}(init=...)."
        )
    if begin is not None and init is None:
        raise TypeError(
            f"the {kind} {name} has begin=, which makes a state of one: give init= too."
        )
    if kind == "penalty":
        if "weight" in arguments:
            raise TypeError(f"the penalty {name} must not take 'weight': the decorator applies it.")
        keyword = inspect.Parameter(
            "weight", inspect.Parameter.KEYWORD_ONLY, annotation=AtLeastZero
        )
        arguments = {"weight": keyword, **arguments}
    if name in REGISTRY and REGISTRY[name].function.__module__ != function.__module__:
        raise ValueError(
            f"a stage named {name} exists already in {REGISTRY[name].function.__module__}: "
            "choose another name, since expressions find stages by name."
        )
    if over not in ("batch", "unlabeled"):
        raise ValueError(f"a penalty is over 'batch' or 'unlabeled', but {name} over {over!r}.")
    found = Definition(kind, name, function, init, inputs, arguments, over, begin=begin)
    REGISTRY[name] = found
    return REGISTRY[name]


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function, eval_str=True).parameters
    except NameError:  # an annotation that only type checkers can resolve: the others are read
        parameters = inspect.signature(function).parameters
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        return {n: p.replace(annotation=_read(p.annotation, scope)) for n, p in parameters.items()}


def _read(annotation: Any, scope: dict[str, Any]) -> Any:
    try:
        return eval(annotation, scope) if isinstance(annotation, str) else annotation
    except NameError:
        return annotation


def _transform(kind: str, function: Callable[..., Any], *how: Any) -> Any:
    definition = _define(kind, function, *how)
    arguments = tuple(definition.arguments.values())
    known = ", ".join(definition.arguments) or "none"
    first = inspect.Parameter("loss", inspect.Parameter.POSITIONAL_ONLY, annotation=Loss)

    @functools.wraps(function)
    def transform(*loss: Loss, **given: Any) -> Loss:
        if kind == "base":
            if loss:
                raise TypeError(
                    f"{definition.name} starts a loss and takes no other: its arguments are given "
                    f"by keyword ({known}), but it was given {_shown(loss)}."
                )
            return Loss((definition.bind(given),))
        if len(loss) != 1 or not isinstance(loss[0], Loss):
            raise TypeError(
                f"{definition.name} acts on one loss, such as regjax.cross_entropy(), and takes "
                f"all else by keyword ({known}), but it was given {_shown(loss)}."
            )
        return Loss((*loss[0].stages, definition.bind(given)))

    shown = arguments if kind == "base" else (first, *arguments)
    transform.__signature__ = inspect.Signature(shown, return_annotation=Loss)  # type: ignore[attr-defined]
    transform.definition = definition  # type: ignore[attr-defined]
    return transform


def _shown(given: tuple[Any, ...]) -> str:
    """What was given in the place of a loss, for errors."""
    uncalled = [value.definition.name for value in given if hasattr(value, "definition")]
    if uncalled:
        return f"the function {uncalled[0]} itself: call it, {uncalled[0]}(...)"
    return ", ".join(map(repr, given)) or "no loss"


def _decorator(kind: str, function: Any, init: Any, over: str = "batch", begin: Any = None) -> Any:
    if function is None:
        return lambda decorated: _transform(kind, decorated, init, over, begin)
    return _transform(kind, function, init, over, begin)


def base(function: Any = None, *, init: Callable[..., Any] | None = None) -> Any:
    """The base loss, `() -> Loss`, of a function that returns losses `[B]`.

    Args:
      function: takes any of `outputs, batch, forward, network, view, key, state, part, step` by
        name, then `*` and arguments.
      init: `(forward, batch, **arguments) -> state`, where the function asks for `state`.

    Returns:
      A function of the keyword arguments that returns a `Loss`, known to `parse` by its name.

    Raises:
      TypeError: the function asks for something that a base is not given.
      ValueError: another module has a stage of that name.

    Example:
      >>> import jax
      >>> import regjax as rj
      >>> @rj.base
      ... def brier(outputs, batch):
      ...     return ((jax.nn.softmax(outputs.logits) - batch.label) ** 2).sum(-1)
      >>> brier()
      brier
    """
    return _decorator("base", function, init)


def wrapper(function: Any = None, *, init: Callable[..., Any] | None = None) -> Any:
    """The loss-to-loss function of a function that changes the batch or the network.

    Args:
      function: takes any of `forward, batch, key, state, part, step` by name, then `*` and
        arguments; returns `(forward, batch)`.
      init: as in `base`.

    Returns:
      `(loss, **arguments) -> Loss`, known to `parse` by its name.

    Raises:
      TypeError: the function asks for something that a wrapper is not given.
      ValueError: another module has a stage of that name.

    Example:
      >>> import regjax as rj
      >>> @rj.wrapper
      ... def brighten(forward, batch, *, amount):
      ...     return forward, batch.replace(image=batch.image + amount)
      >>> brighten(rj.cross_entropy(), amount=0.1)
      cross_entropy | brighten(amount=0.1)
    """
    return _decorator("wrapper", function, init)


def penalty(
    function: Any = None,
    *,
    init: Callable[..., Any] | None = None,
    over: str = "batch",
    begin: Callable[..., Any] | None = None,
) -> Any:
    """The loss-to-loss function of a function that measures a term, `[B]` or a scalar.

    Args:
      function: takes any of `point, batch, forward, network, view, key, state, part, step, base,
        second` by name, then `*` and arguments; the result gets the keyword `weight`, by which the
        term is multiplied.
      init: as in `base`.
      over: "batch", or "unlabeled" for a term of `batch.unlabeled`, `[U]` or a scalar: its mean is
        over those examples, by their weights, on all devices and in all parts of a batch.
      begin: `(state, network, **arguments) -> state`, called once at the beginning of each step,
        for what follows the network's parameters, such as a teacher.

    Returns:
      `(loss, *, weight, **arguments) -> Loss`, known to `parse` by its name.

    Raises:
      TypeError: the function asks for something that a penalty is not given.
      ValueError: another module has a stage of that name, or `over` is neither.

    Example:
      >>> import regjax as rj
      >>> @rj.penalty
      ... def logit_decay(point):
      ...     return (point.outputs.logits**2).sum(-1)
      >>> logit_decay(rj.cross_entropy(), weight=0.1)
      cross_entropy | logit_decay(weight=0.1)
    """
    return _decorator("penalty", function, init, over, begin)
