"""Taps that see a layer of a whole batch."""

from __future__ import annotations

import jax

from regjax.core.batch import Batch
from regjax.core.forward import Forward, Tap, check_names


def tapped(forward: Forward, batch: Batch, tap: Tap, layers: tuple[str, ...]) -> Forward:
    """`forward.with_tap`, for taps that treat the rows of a layer's output as the examples.

    Args:
      forward: the network.
      batch: the examples.
      tap: `tap(layer, h [B, ...]) -> h`.
      layers: names out of `forward.layers`.

    Returns:
      A `Forward` for use inside the current trace.

    Raises:
      TypeError: `layers` is one string.
      ValueError: `layers` is empty or names one unknown or twice; at trace time, a layer's output
        is not `[B, ...]`.
    """
    check_names(layers)
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must name at least one layer, and each once, not {layers}.")
    size = batch.image.shape[0]

    def checked(layer: str, h: jax.Array) -> jax.Array:
        if h.shape[:1] != (size,):
            raise ValueError(
                f"the output of layer {layer!r} is {h.dtype}{list(h.shape)}, but its first axis "
                f"must be the batch of {size}: name another layer."
            )
        return tap(layer, h)

    return forward.with_tap(checked, layers=layers)
