"""optax's optimizers and schedules, named by expressions such as a config holds.

optimizer = "add_decayed_weights(weight_decay=5e-4) | sgd(momentum=0.9, nesterov=True)"
optimizer = "add_decayed_weights(weight_decay=5e-4, mask='kernels') | sgd(momentum=0.9)"
optimizer = "adam | by_part(parts={'head': 10.0})"
optimizer = "my_module:sign_descent(scale=0.5)"
schedule = "step(epochs=(80, 120), factor=0.1)"
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.training import parts
from regjax.core.calls import imported, modules, read_named

# Somebody's own, which go before optax's of the same name.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {}
EXAMPLE = "'add_decayed_weights(weight_decay=5e-4) | sgd(momentum=0.9)'"
BY_PART = re.compile(rf"\s*{parts.NAME}\b")


def register(name: str) -> Callable[[Any], Any]:
    """Adds a gradient transformation, which `config.optimizer` can then name: a decorator.

    Args:
      name: of the transformation.

    Returns:
      A decorator of a function of keyword arguments that returns an
      `optax.GradientTransformation`; one that is the last of its expression is an optimizer and is
      given `learning_rate=`, a number or a schedule. It returns the function.

    Raises:
      ValueError: another module has registered the name, or optax has it.

    Example:
      `@register("sign_descent")` above `def sign_descent(learning_rate): return
      optax.chain(optax.sign(), optax.scale_by_learning_rate(learning_rate))`
    """

    def add(function: Any) -> Any:
        known = OPTIMIZERS.get(name)
        if hasattr(optax, name) or (known and known.__module__ != function.__module__):
            raise ValueError(f"an optimizer named {name!r} exists already: choose another name.")
        OPTIMIZERS[name] = function
        return function

    return add


def kernels(params: Any) -> Any:
    """The mask of the arrays with two axes and more, a pytree of booleans.

    It leaves out biases and BatchNorm's scales, as `rj.l2` does by default.
    """
    return jax.tree.map(lambda x: jnp.ndim(x) >= 2, params)


# What a `mask=` may say in the place of a function.
MASKS = {"kernels": kernels}


def optimizer(text: str, rate: float | optax.Schedule, clip_norm: float = 0.0) -> Any:
    """The optax optimizer of an expression.

    Args:
      text: names of functions with keyword arguments, joined by `|`; all but the last change the
        gradients, the last is an optimizer, which is given the learning rate. They are optax's,
        those of `OPTIMIZERS`, or `module:name` out of a module that has been imported. A `mask` may
        be one of `MASKS`: with "kernels", what decays leaves out biases and BatchNorm. Anywhere
        among them, `by_part` multiplies the rate for parts of the network, see `parts.py`.
      rate: learning rate, or schedule of the step.
      clip_norm: the gradients are scaled down to this global norm first; 0 leaves them.

    Returns:
      An `optax.GradientTransformation`; its `init` raises ValueError for a part of the network
      that there is not.

    Raises:
      ValueError: there is no such function, or it does not take these arguments.

    Example:
      `optimizer("sgd(momentum=0.9, nesterov=True)", 0.1)`
    """
    each = text.split("|")
    of_parts = [link for link in each if BY_PART.match(link)]
    *before, last = [link for link in each if link not in of_parts] or [text]
    links = [_call(link, "gradient transformation") for link in before]
    links.append(_call(last, "optimizer", learning_rate=rate))
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    _try(optax.chain(*clip, *links), text)
    # Last, so that they are rates also where the optimizer divides by the gradients' size.
    return optax.chain(*clip, *links, *map(_by_part, of_parts))


def _by_part(text: str) -> optax.GradientTransformation:
    _, given = read_named(text, "link", parts.EXAMPLE)
    unknown = sorted(given.keys() - {"parts"})
    if unknown:
        raise ValueError(f"by_part has no {unknown[0]!r}; it takes: parts.")
    return parts.by_part(given.get("parts", {}))


def _try(made: optax.GradientTransformation, text: str) -> None:
    """Takes a step with it, of shapes only, since optax looks at most arguments no sooner."""

    def step(params: dict[str, jax.Array]) -> Any:
        return made.update(params, made.init(params), params)

    params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
    try:
        jax.eval_shape(step, params)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"optax cannot take a step with the optimizer {text!r}: {_reason(error, text)}."
        ) from None


def schedule(text: str, rate: float, steps_per_epoch: float, epochs: float) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
      text: "constant", "step(epochs=(80, 120), factor=0.1)", "cosine" or
        "polynomial(power=0.9, start=0)", which end at 0, the latter falling from the epoch `start`
        on; "ramps(up=80, down=50)", `exp(-5 (1 - t)^2)` over the first epochs and
        `exp(-12.5 t^2)` over the last. Each takes `warmup=`, so many epochs in which the rate rises
        from 0.
      rate: the largest learning rate.
      steps_per_epoch: steps in an epoch.
      epochs: of the whole training.

    Raises:
      ValueError: an unknown schedule, or arguments that it does not take.

    Example:
      `schedule("cosine(warmup=5)", 0.1, steps_per_epoch=391, epochs=200)`
    """
    name, given = read_named(text, "schedule", "step(epochs=(80, 120), factor=0.1)")
    warmup = given.pop("warmup", 0)
    if not isinstance(warmup, int | float) or not 0 <= warmup <= epochs:
        raise ValueError(f"warmup in {text!r} must be from 0 to {epochs} epochs.")
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {text!r}; known are: {', '.join(SCHEDULES)}.")
    start = round(warmup * steps_per_epoch)
    try:
        main = SCHEDULES[name](rate, lambda e: round(e * steps_per_epoch) - start, epochs, **given)
    except (TypeError, ValueError, AssertionError, OverflowError):
        known = list(inspect.signature(SCHEDULES[name]).parameters)[3:]
        names = ", ".join([*known, "warmup"])
        room = f" and all in its {epochs:g} epochs" if {"start", "up"} & {*known} else ""
        raise ValueError(
            f"the schedule {text!r} must have the arguments: {names}, none of them negative{room}."
        ) from None
    if not start:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, rate, start), main], [start])


def _constant(rate: float, step: Callable[[float], int], end: float) -> optax.Schedule:
    return optax.constant_schedule(rate)


def _steps(
    rate: float, step: Callable[[float], int], end: float, epochs: tuple[float, ...], factor: float
) -> optax.Schedule:
    if not all(e >= 0 for e in epochs):
        raise ValueError(epochs)
    return optax.piecewise_constant_schedule(rate, {step(e): float(factor) for e in epochs})


def _cosine(rate: float, step: Callable[[float], int], end: float) -> optax.Schedule:
    return optax.cosine_decay_schedule(rate, max(step(end), 1))


def _polynomial(
    rate: float, step: Callable[[float], int], end: float, power: float = 0.9, start: float = 0
) -> optax.Schedule:
    if not (power >= 0 and 0 <= start <= end):
        raise ValueError(power, start)
    begin = max(step(start), 0)
    return optax.polynomial_schedule(rate, 0.0, power, max(step(end) - begin, 1), begin)


def _ramps(
    rate: float, step: Callable[[float], int], end: float, up: float, down: float
) -> optax.Schedule:
    """As in "Temporal Ensembling" (Laine and Aila, 2017), section 3."""
    if not (up >= 0 and down >= 0 and up + down <= end):
        raise ValueError(up, down)
    first, last, whole = step(up) - step(0), step(end - down), step(end) - step(end - down)

    def at(count: Any) -> Any:
        left = jnp.clip(1 - count / max(first, 1), 0, 1) if first else 0.0
        gone = jnp.clip((count - last) / max(whole, 1), 0, 1)
        return rate * jnp.exp(-5 * left**2 - 12.5 * gone**2)

    return at


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": _constant,
    "step": _steps,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "ramps": _ramps,
}


def _call(text: str, kind: str, **more: Any) -> optax.GradientTransformation:
    name, given = read_named(text, kind, EXAMPLE)
    own = imported(name) if ":" in name else OPTIMIZERS.get(name)
    function = own or getattr(optax, name, None)
    if callable(function):
        _check_names(name, function, {**more, **given})
    try:
        made = function(**more, **_masked(given)) if callable(function) else None
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{'optax' if own is None else name} cannot make the {kind} {text.strip()!r}: "
            f"{_reason(error, text)}."
        ) from None
    if not isinstance(made, optax.GradientTransformation):
        others = f" or one of: {', '.join(OPTIMIZERS)}" if OPTIMIZERS else ""
        raise ValueError(
            f"unknown {kind} {text.strip()!r}: name a function of optax, such as {EXAMPLE}{others}."
        )
    return made


def _check_names(name: str, function: Callable[..., Any], given: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [each for each in given if each not in takes and not any_name]
    needed = [p.name for p in parameters if p.default is p.empty and p.name in takes]
    if "learning_rate" in unknown:
        raise ValueError(
            f"{name} takes no learning rate: end with an optimizer, such as {EXAMPLE}."
        )
    if unknown:
        raise ValueError(f"{name} has no {unknown[0]!r}; it takes: {', '.join(takes)}.")
    if "learning_rate" in needed and "learning_rate" not in given:
        raise ValueError(f"{name} is an optimizer: it must be the last, such as in {EXAMPLE}.")
    if missing := [each for each in needed if each not in given]:
        raise ValueError(f"{name} needs {missing[0]}=, as in {name}({missing[0]}=...).")


def _masked(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments, masks that are called by name as functions."""
    named = {n: v for n, v in given.items() if n.endswith("mask") and isinstance(v, str)}
    for name, value in named.items():
        if value not in MASKS:
            raise ValueError(f"{name} must be one of: {', '.join(MASKS)}, not {value!r}")
    return given | {name: MASKS[value] for name, value in named.items()}


def _reason(error: Exception, text: str) -> str:
    # Python's own words name neither the argument nor what it may be, but help who wrote the code.
    somebodys_own = modules(text) or any(name in text for name in OPTIMIZERS)
    if isinstance(error, TypeError | AttributeError) and not somebodys_own:
        return "an argument is of a type that it does not take"
    return (str(error).splitlines() or [repr(error)])[0].rstrip(".")
