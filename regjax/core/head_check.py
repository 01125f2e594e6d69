"""A network's last linear layer, and whether it is all between its features and its logits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from regjax.core.batch import Batch
from regjax.core.forward import Forward
from regjax.core.outputs import Head, Outputs
from regjax.core.precision import wide
from regjax.core.resizing import resized

TOLERANCE = 0.02  # of the largest logit: more than bfloat16 and TF32 are off


def head_kernel(forward: Forward) -> jax.Array:
    """The last layer's weights, `[A, C]`, in float32 at least; refuses a network without a head."""
    if forward.head is None:
        raise ValueError(
            "the loss needs the network's last linear layer: name it where the network is bound, "
            "regjax.flax.bind(model, head='...') or regjax.from_function(fn, params, head=...)."
        )
    return wide(forward.head.kernel)


def head_features(outputs: Outputs) -> jax.Array:
    """The last layer's input, `[B, ..., A]`; refuses a network that does not return it."""
    if outputs.features is None:
        raise ValueError(
            "the loss needs the network's features, the last layer's input, but it returns logits "
            "only, or calls the layer twice: return (logits, features)."
        )
    return outputs.features


def no_state(forward: Forward, batch: Batch, **_: Any) -> None:
    """The state of a base without one that needs the head to be the map from features to logits."""
    head_kernel(forward)
    check_head(forward, batch.image)


def check_head(forward: Forward, image: jax.Array, resizing: str | None = None) -> None:
    """Refuses a network whose logits are not `features @ kernel + bias`, where that can be seen.

    What lies between features and logits is cut out of the network and run on random numbers, which
    needs the shapes of the parameters only. Where logits depend on the image in other ways too, the
    network itself is run on two images, unless this is inside a trace.

    Args:
      forward: the network, with a head; one without features is left alone.
      image: `[B, ...]`.
      resizing: how dense logits are enlarged behind the head (see `resizing.py`), where they are;
        None where that is not looked at.

    Raises:
      ValueError: the logits are others.
    """
    network = forward.frozen()

    def both(params: Any, state: Any, image: jax.Array) -> Any:
        own = network.replace(params=params, state=state)
        return _both(own(image), own.head, resizing)

    arguments = (network.params, network.state, image)
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), arguments
    )
    # Two images tell as much as all do, and dense features of all are large.
    shapes = (*shapes[:2], shapes[2].update(shape=(min(2, image.shape[0]), *image.shape[1:])))
    program = jax.make_jaxpr(both)(*shapes)
    if not program.jaxpr.outvars:
        return
    found = _cut(program, range(len(jax.tree.leaves(shapes[:2]))))
    if found is None and not any(
        isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(arguments)
    ):
        found = tuple(both(*arguments[:2], image[:2])[1:])
    if found is None:
        return
    logits, told = (np.asarray(a, np.float32) for a in found)
    enlarging = f" Logits that are enlarged must be so by {resizing=}." if logits.ndim == 4 else ""
    # A class may be masked behind the head, by a logit of -inf.
    logits, told = (a[np.isfinite(logits)] for a in (logits, told))
    off, scale = np.max(np.abs(logits - told), initial=0), np.max(np.abs(logits), initial=0)
    if off > TOLERANCE * scale:
        raise ValueError(
            "the network's logits are not features @ kernel + bias of its head: tried out, they "
            f"are off by {off:.2g} where the largest is {scale:.2g}, so that the loss would be of "
            "other logits. Scale the features before the head instead of the logits behind it; and "
            "where the kernel is made of several parameters, as by a weight norm or LoRA, say how: "
            "forward.replace(get_head=lambda params: (kernel, bias))." + enlarging
        )


def _both(outputs: Outputs, head: Head | None, resizing: str | None) -> Any:
    """Features, logits, and what the head makes of the features; None where there is no such."""
    if outputs.features is None or head is None:
        return None
    told = outputs.features @ head.kernel
    told = told if head.bias is None else told + jnp.expand_dims(head.bias, range(told.ndim - 1))
    size = outputs.logits.shape[1:-1]
    if resizing is not None and told.ndim == 4 and len(size) == 2:
        told = resized(told, size, resizing)
    return None if told.shape != outputs.logits.shape else (outputs.features, outputs.logits, told)


def _cut(program: Any, given: range) -> tuple[Any, ...] | None:
    """Logits and what is told of them, at random features and parameters; None where that fails.

    Args:
      program: a closed jaxpr with the outputs `(features, logits, told)`.
      given: the places of the parameters and the state among its inputs.
    """
    jaxpr = program.jaxpr
    features, *wanted = jaxpr.outvars
    needed, equations = {v for v in wanted if _is_variable(v)}, []
    for equation in reversed(jaxpr.eqns):
        if (needed - {features}) & set(equation.outvars):
            equations.append(equation)
            needed |= {v for v in equation.invars if _is_variable(v)}
    made = {v for e in equations for v in e.outvars}
    constants = dict(zip(jaxpr.constvars, program.consts, strict=True))
    inputs = [v for v in jaxpr.invars if v in needed and v is not features]
    if any(isinstance(constants[v], jax.core.Tracer) for v in constants if v in needed):
        return None
    if features in made or not set(inputs) <= {jaxpr.invars[i] for i in given}:
        return None
    cut = jaxpr.replace(
        invars=[features, *inputs], outvars=wanted, eqns=equations[::-1], effects=set()
    )
    with jax.ensure_compile_time_eval():
        arrays = [_random(i, v.aval) for i, v in enumerate(cut.invars)]
        if arrays[0].ndim == 4:  # of both signs, or sums of many would be the same at all pixels
            signs = np.random.default_rng(1).choice([-1, 1], arrays[0].shape)
            arrays[0] = arrays[0] * jnp.asarray(signs, arrays[0].dtype)
        return tuple(jax.core.eval_jaxpr(cut, program.consts, *arrays))


def _is_variable(atom: Any) -> bool:
    return not hasattr(atom, "val")  # as literals have


def _random(seed: int, aval: Any) -> jax.Array:
    # Positive, since a variance may be among them, and nowhere near 1, as a temperature would be.
    values = np.random.default_rng(seed).uniform(1.5, 2.5, aval.shape)
    return jnp.asarray(values, aval.dtype)
