"""Auxiliary heads, second classifiers halfway through a network, which train by the same base."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch
from regjax.core.checks import check_logits
from regjax.core.definitions import Number
from regjax.core.forward import Forward
from regjax.core.outputs import Outputs


def branches(forward: Forward) -> list[Forward]:
    """The network once for each auxiliary head, which is then its head.

    Example:
      >>> import jax.numpy as jnp, regjax as rj
      >>> def model(params, x):
      ...     return x @ params["main"], x, (x @ params["aside"],)
      >>> params = {"main": jnp.eye(2), "aside": 3 * jnp.eye(2)}
      >>> aside = lambda params: (params["aside"], None)
      >>> (branch,) = branches(rj.from_function(model, params, auxiliary=(aside,)))
      >>> print(branch(jnp.ones((1, 2))).logits, branch.head.kernel[0])
      [[3. 3.]] [3. 0.]
    """
    return [
        forward.replace(apply=_Branch(forward.apply, i), get_head=get)
        for i, get in enumerate(forward.get_auxiliary)
    ]


def seen_from(outputs: Outputs, batch: Batch) -> list[Outputs]:
    """The outputs once for each auxiliary head, in the main one's place.

    Raises:
      ValueError: at trace time, there is none, or its logits do not match the labels.
    """
    if not outputs.auxiliary:
        raise ValueError(
            "auxiliary= is the weight of auxiliary heads, but the network has none: name them "
            "where it is bound, regjax.flax.bind(model, head='...', auxiliary=('...',)), or leave "
            "the argument out."
        )
    for branch in outputs.auxiliary:
        check_logits(branch.logits, batch)
    return [_headed(outputs, i) for i in range(len(outputs.auxiliary))]


def summed(losses: list[jax.Array], weight: Number | None) -> jax.Array:
    """The main head's losses `[B]`, which come first, and `weight` times those of each other."""
    total, *others = losses
    for each in others:
        total = total + jnp.asarray(weight, each.dtype) * each
    return total


def _headed(outputs: Outputs, index: int) -> Outputs:
    branch = outputs.auxiliary[index]
    return outputs._replace(logits=branch.logits, features=branch.features)


@dataclasses.dataclass(frozen=True)
class _Branch:
    """`Forward.apply` of which an auxiliary head's output is the main one."""

    apply: Callable[..., Outputs]
    index: int

    def __call__(self, *arguments: Any) -> Outputs:
        outputs = self.apply(*arguments)
        # Some models leave auxiliary heads out when they are evaluated.
        if self.index >= len(outputs.auxiliary):
            return outputs._replace(features=None)
        return _headed(outputs, self.index)
