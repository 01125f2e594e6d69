"""Semantic augmentation of dense predictions whose features have fewer pixels than the labels.

The spread `lambda / 2 Q_yj` is added to the logits at the features' h x w. Enlarging is linear, so
that it is enlarged by itself here and added to the logits that the network enlarged.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_means
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.resizing import nearest, resized
from regjax.losses.cross_entropy import counted, log_probabilities
from regjax.semantic.bounds import upper_bound

DEFAULT = "align_corners"


def at_features(batch: Batch, outputs: Outputs, resizing: str) -> Batch:
    """The batch with its dense labels at the pixels of the features, the nearest ones."""
    features, label = outputs.features, batch.label
    if features is None or features.shape[:-1] == label.shape[:-1] or label.ndim != 4:
        return batch
    if features.ndim != 4 or features.shape[0] != label.shape[0]:
        return batch  # refused by who sees both
    size = (features.shape[1], features.shape[2])
    return batch.replace(label=nearest(label, size, resizing))


def losses(
    logits: jax.Array, label: jax.Array, near: jax.Array, spread: jax.Array, resizing: str
) -> jax.Array:
    """The bound of each example, the mean over its labelled positions.

    Args:
      logits: `[B, ..., C]`, of the features as they are, enlarged to the labels' size.
      label: `[B, ..., C]`.
      near: `[B, ..., C]`, the labels at the features' positions.
      spread: `[C, C]`, as `upper_bound` takes it.
      resizing: how logits are enlarged, where `near` has fewer pixels.

    Returns:
      `[B]`, nats; 0 for an example without labels.

    Example:
      >>> z, y = jnp.zeros((1, 1, 2, 2)), jnp.ones((1, 1, 2, 1)) * jnp.array([1.0, 0.0])
      >>> spread = jnp.log(jnp.array([[1.0, 3.0], [3.0, 1.0]]))
      >>> print(losses(z, y, y[:, :, :1], spread, "half_pixel"))
      [1.3862944]
    """
    if near.shape == label.shape:
        return example_means(upper_bound(logits, label, spread), label)
    mass = jnp.sum(near, -1, keepdims=True)
    # One row of the table for each position: a gather, whose derivative is a product as well.
    rows = jnp.matmul(near / jnp.where(mass > 0, mass, 1), spread, precision="highest")
    moved = wide(logits) + resized(rows, (label.shape[1], label.shape[2]), resizing)
    return example_means(-jnp.sum(counted(label, log_probabilities(moved)), -1), label)
