"""Noise on the input."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.batch import Batch, example_keys
from regjax.forward import Forward
from regjax.stages import Number, wrapper


@wrapper
def noise_injection(
    forward: Forward, batch: Batch, key: jax.Array, *, sigma: Number
) -> tuple[Forward, Batch]:
    """Adds Gaussian noise to the image.

    `loss(x + sigma e, y)` with `e ~ N(0, I)`. See the thesis, eq. (57). Each example's noise is
    drawn by `batch.index`, whatever its place in the batch and the device it is on.

    Args:
      loss: the loss to wrap (positional).
      sigma: the standard deviation, in units of the image.

    Returns:
      A `Loss`.

    Example:
      >>> import regjax as rj
      >>> rj.noise_injection(rj.cross_entropy(), sigma=0.1)
      cross_entropy | noise_injection(sigma=0.1)
    """
    image = batch.image
    keys = example_keys(key, batch)
    dtype = jnp.promote_types(image.dtype, jnp.float32)  # the same draw for bfloat16
    noise = jax.vmap(lambda k: jax.random.normal(k, image.shape[1:], dtype))(keys)
    return forward, batch.replace(image=(image + sigma * noise).astype(image.dtype))
