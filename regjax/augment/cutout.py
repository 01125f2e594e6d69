"""Cutout: squares of an image are lost."""

from __future__ import annotations

import numbers

import jax
import jax.numpy as jnp

from regjax.augment.regions import box, image_size, spread
from regjax.core.batch import Batch, example_keys
from regjax.core.forward import Forward
from regjax.core.stages import AtLeastZero, wrapper


@wrapper
def cutout(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    size: AtLeastZero,
    fill: tuple[float, ...] = (0.0,),
) -> tuple[Forward, Batch]:
    """Images with a square of each set to `fill`.

    Its centre is uniform over the pixels and what sticks out over the border is clipped, so that
    often less than the whole square is lost. See "Improved Regularization of Convolutional Neural
    Networks with Cutout" (DeVries & Taylor, 2017). Each example draws by `batch.index`. On
    normalised images 0 is the mean, as in the authors' program; ISDA's cuts before it normalises,
    for which `fill` is black. Dense labels stay: what is lost is to be told from its surroundings.

    Helps on natural images, where objects are seen in part; 16 on CIFAR-10 and 8 on CIFAR-100 in
    the paper, 16 on both with ISDA. Costs nothing.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, ...]` (positional).
      size: the side in pixels, from `centre - size // 2` on; a fraction of a pixel is dropped.
      fill: one number for all channels or one for each, in the last axis. On normalised images
        black is `-mean / std`, the zero of pixels.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, ...]`, or `fill` is no tuple that
        fits the last axis.

    Example:
      >>> import regjax as rj
      >>> rj.cutout(rj.cross_entropy(), size=16)
      cross_entropy | cutout(size=16.0)
    """
    height, width = image_size(batch, "cutout")
    fits = isinstance(fill, tuple) and len(fill) in (1, batch.image.shape[-1])
    if not fits or not all(isinstance(each, numbers.Real) for each in fill):
        raise ValueError(
            "cutout needs a tuple of one number in fill, or of one for each channel, but the "
            f"images are {list(batch.image.shape)} and fill is {fill}."
        )
    side = jnp.floor(jnp.asarray(size, jnp.float32))

    def draw(key: jax.Array) -> jax.Array:
        return box(key, (height, width), (side, side))

    black = jnp.asarray(fill, batch.image.dtype).reshape(*[1] * (batch.image.ndim - 1), -1)
    inside = spread(jax.vmap(draw)(example_keys(key, batch)), batch.image)
    return forward, batch.replace(image=jnp.where(inside, black, batch.image))
