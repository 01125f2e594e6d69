"""The point at which a loss is taken: a network's outputs there, linearised once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch
from regjax.core.forward import Forward
from regjax.core.outputs import Outputs


class Point:
    """Where the network stands: its outputs at the batch that the wrappers made, linearised once.

    Attributes:
      forward: the `Forward` that the wrappers made.
      batch: the `Batch` that the wrappers made.
      key: what drives the network's dropout; `point.forward(x, point.key)` has the same masks.
      outputs: the network's `Outputs` at `batch.image`.
      losses: the base losses there, `[B]`.
      base_state: the base loss's next state, or None.
    """

    def __init__(
        self,
        forward: Forward,
        batch: Batch,
        key: jax.Array,
        base: Callable[[Outputs], tuple[jax.Array, Any]],
    ) -> None:
        """Runs the network and the base loss and keeps their vector-Jacobian products."""
        self.forward, self.batch, self.key, self._base = forward, batch, key, base

        def network(image: jax.Array) -> tuple[Outputs, Any]:
            outputs = forward(image, key)
            return outputs._replace(state=()), outputs.state

        # The model's new statistics, a side result, are differentiated by nobody.
        pure, self._vjp, state = jax.vjp(network, batch.image, has_aux=True)
        self.outputs = pure._replace(state=state)

        def losses(pure: Outputs) -> tuple[jax.Array, Any]:
            return base(pure._replace(state=state))

        # Once, since a loop, such as in ISDA, would be compiled and run twice.
        self.losses, self._loss_vjp, self.base_state = jax.vjp(losses, pure, has_aux=True)

    def pullback(self, cotangent: jax.Array | Outputs) -> jax.Array:
        """The product of a cotangent with the network's Jacobian with respect to the image.

        Args:
          cotangent: of the logits, `[B, C]`, or of all outputs, auxiliary ones among them, as
            `loss_cotangent` returns it.

        Returns:
          `[B, H, W, K]`, the shape of the image.
        """
        if isinstance(cotangent, Outputs):
            return self._vjp(cotangent._replace(state=()))[0]
        zeros = jax.tree.map(jnp.zeros_like, self.outputs._replace(state=()))
        # Adding zeros makes a constant, such as a unit vector, differ by device under shard_map.
        logits = cotangent.astype(zeros.logits.dtype) + zeros.logits
        return self._vjp(zeros._replace(logits=logits))[0]

    def loss_cotangent(self) -> Outputs:
        """The gradient of the summed base losses with respect to the outputs; its state is `()`."""
        return self._loss_vjp(jnp.ones_like(self.losses))[0]

    @functools.cached_property
    def frozen(self) -> Point:
        """The same point with BatchNorm's running averages, where examples are independent."""
        if self.forward.is_frozen or not jax.tree.leaves(self.forward.state):
            return self
        return Point(self.forward.frozen(), self.batch, self.key, self._base)
