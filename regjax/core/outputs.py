"""What a network computes, and the linear layers that it ends in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

# Of a network's parameters, the kernel and the bias of a linear layer.
GetHead = Callable[[Any], tuple[jax.Array, jax.Array | None]]


class Branch(NamedTuple):
    """What an auxiliary head computes, a second classifier halfway through the network.

    Attributes:
      logits: the auxiliary head's logits, `[B, C]`.
      features: the input of the auxiliary head's linear layer, `[B, A]`, or None.
    """

    logits: jax.Array
    features: jax.Array | None = None


class Outputs(NamedTuple):
    """What a network computes at a batch.

    Attributes:
      logits: the logits, `[B, C]`.
      features: the input of the last linear layer, `[B, A]`, or None where no head was named.
      state: the updated statistics of the model (BatchNorm's), with the structure of
        `Forward.state`.
      auxiliary: the auxiliary heads' outputs, in the order in which they were named; `()` where
        there are none, or where the model leaves them out, as some do when they are evaluated.
    """

    logits: jax.Array
    features: jax.Array | None = None
    state: Any = ()
    auxiliary: tuple[Branch, ...] = ()


class Head(NamedTuple):
    """A linear layer that ends in logits: `logits = features @ kernel + bias`.

    Attributes:
      kernel: the weights, `[A, C]`.
      bias: the bias, `[C]`, or None where the layer has none.
    """

    kernel: jax.Array
    bias: jax.Array | None


def read_output(out: Any) -> Outputs:
    """What a model returned, with the state still to come; refuses, at trace time, all else."""
    if hasattr(out, "dtype"):
        return Outputs(out)
    if isinstance(out, tuple) and len(out) == 2:
        return Outputs(*out)
    if isinstance(out, tuple) and len(out) == 3 and isinstance(out[2], tuple):
        logits, features, branches = out
        return Outputs(logits, features, auxiliary=tuple(map(_read_branch, branches)))
    shown = f"{type(out).__name__} of {len(out)}" if isinstance(out, tuple) else type(out).__name__
    raise TypeError(
        "a model must return logits, (logits, features), or (logits, features, auxiliary) with a "
        f"tuple of the auxiliary heads' own logits, but it returned a {shown}."
    )


def _read_branch(out: Any) -> Branch:
    if hasattr(out, "dtype"):
        return Branch(out)
    if isinstance(out, tuple) and len(out) == 2:
        return Branch(*out)
    raise TypeError(
        "each of a model's auxiliary outputs must be logits or (logits, features), but one is a "
        f"{type(out).__name__}."
    )
