"""Cutout: squares of an image are lost."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.augment.regions import box, image_size, spread
from regjax.core.batch import Batch, example_keys
from regjax.core.forward import Forward
from regjax.core.stages import AtLeastZero, wrapper


@wrapper
def cutout(
    forward: Forward, batch: Batch, key: jax.Array, *, size: AtLeastZero
) -> tuple[Forward, Batch]:
    """Images with a square of each set to 0.

    Its centre is uniform over the pixels and what sticks out over the border is clipped, so that
    often less than the whole square is lost. See "Improved Regularization of Convolutional Neural
    Networks with Cutout" (DeVries & Taylor, 2017). Each example draws by `batch.index`. On
    normalised images 0 is the mean, as in the authors' program. Dense labels stay: what is
    lost is to be told from its surroundings.

    Helps on natural images, where objects are seen in part; 16 on CIFAR-10 and 8 on CIFAR-100 in
    the paper. Costs nothing.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, ...]` (positional).
      size: the side in pixels, from `centre - size // 2` on; a fraction of a pixel is dropped.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, ...]`.

    Example:
      >>> import regjax as rj
      >>> rj.cutout(rj.cross_entropy(), size=16)
      cross_entropy | cutout(size=16.0)
    """
    height, width = image_size(batch, "cutout")
    side = jnp.floor(jnp.asarray(size, jnp.float32))

    def draw(key: jax.Array) -> jax.Array:
        return box(key, (height, width), (side, side))

    inside = spread(jax.vmap(draw)(example_keys(key, batch)), batch.image)
    return forward, batch.replace(image=jnp.where(inside, 0, batch.image))
