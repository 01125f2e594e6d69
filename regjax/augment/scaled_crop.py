"""Crops out of images enlarged or made smaller at random; dense labels move along."""

from __future__ import annotations

import numbers

import jax
import jax.numpy as jnp

from regjax.augment.regions import has_dense_labels, image_size
from regjax.core.batch import Batch, example_keys
from regjax.core.forward import Forward
from regjax.core.stages import AtLeastZero, Count, Number, wrapper

# Steps from low to high that rounding makes a little less than a whole number.
ROUNDING = 1e-3


@wrapper
def scaled_crop(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    size: Count | tuple[int, int],
    low: AtLeastZero,
    high: AtLeastZero,
    step: AtLeastZero = 0.0,
    fill: tuple[float, ...] = (0.0,),
) -> tuple[Forward, Batch]:
    """Images enlarged by a random factor, and of each a crop at a random place.

    An image of `H x W` becomes one of `round(factor H) x round(factor W)`, at least of a pixel,
    whose pixel i is taken bilinearly at `(i + 1/2) / factor - 1/2`. Where that is too small for the
    crop, it is padded at its bottom and right with `fill`. All places of the crop are equally
    likely. Dense labels move along, each that of the nearest pixel, and what is padded has none.
    See "Pyramid Scene Parsing Network" (Zhao et al., 2017), 5.1. Each example draws by
    `batch.index`; what is enlarged is only the crop, so that memory does not grow with `high`.

    Helps in segmentation, where objects are seen at all sizes; 0.5 to 2 on most data sets, 0.7 to
    2.1 in steps of 0.1 on Cityscapes with ISDA. Costs four gathers.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, K]` (positional).
      size: of the crop, the side of a square or `(height, width)`, in pixels.
      low: the least factor.
      high: the largest factor.
      step: between factors, of which all are equally likely: low, low + step and so on up to
        high; with 0 the factor is uniform.
      fill: one number for all channels or one for each. On normalised images 0 is the mean.

    Returns:
      A `Loss`; its images, and labels if dense, are `[B, height, width, ...]`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, K]`, `fill` is no tuple that fits K,
        `size` is neither a whole number above 0 nor two, or dense labels are not `[B, H, W, C]`.

    Example:
      >>> import regjax as rj
      >>> rj.scaled_crop(rj.cross_entropy(), size=769, low=0.7, high=2.1, step=0.1)
      cross_entropy | scaled_crop(size=769, low=0.7, high=2.1, step=0.1)
    """
    crop = _checked(batch, size, fill)
    dense = has_dense_labels(batch, "scaled_crop")
    whole = jnp.asarray(batch.image.shape[1:3], jnp.float32)
    outside = jnp.asarray(fill, batch.image.dtype)

    def moved(key: jax.Array, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = jax.random.uniform(key, (3,), jnp.float32)
        factor = _factor(drawn[0], low, high, step)
        scaled = jnp.maximum(jnp.round(factor * whole), 1)
        room = jnp.maximum(scaled - jnp.asarray(crop, jnp.float32), 0)
        start = jnp.floor(drawn[1:] * (room + 1))
        rows, columns = (start[i] + jnp.arange(crop[i], dtype=jnp.float32) for i in range(2))
        known = ((rows < scaled[0])[:, None] & (columns < scaled[1])[None])[..., None]
        places = tuple((pixel + 0.5) / factor for pixel in (rows, columns))
        image = jnp.where(known, _blended(image, places), outside[None, None])
        return image, jnp.where(known, _nearest(label, places), 0) if dense else label

    image, label = jax.vmap(moved)(example_keys(key, batch), batch.image, batch.label)
    return forward, batch.replace(image=image, label=label)


def _factor(drawn: jax.Array, low: Number, high: Number, step: Number) -> jax.Array:
    """A factor `[]` by a number of 0 to 1: any, or one in steps."""
    safe = jnp.where(step > 0, step, 1)
    steps = jnp.floor((high - low) / safe + ROUNDING)
    return low + jnp.where(step > 0, step * jnp.floor(drawn * (steps + 1)), (high - low) * drawn)


def _blended(image: jax.Array, places: tuple[jax.Array, ...]) -> jax.Array:
    """`image [H, W, K]` at rows and columns, counted from the edge of the first pixel."""
    x = image.astype(jnp.promote_types(image.dtype, jnp.float32))
    for axis, place in enumerate(places):
        place = jnp.clip(place - 0.5, 0, x.shape[axis] - 1)
        before = jnp.floor(place).astype(jnp.int32)
        share = jnp.expand_dims(place - before, (1 - axis, 2))
        first, second = (jnp.take(x, before + i, axis, mode="clip") for i in range(2))
        x = first + share * (second - first)
    return x.astype(image.dtype)


def _nearest(label: jax.Array, places: tuple[jax.Array, ...]) -> jax.Array:
    """`label [H, W, C]` of the pixels in which the places lie."""
    for axis, place in enumerate(places):
        place = jnp.clip(jnp.floor(place), 0, label.shape[axis] - 1)
        label = jnp.take(label, place.astype(jnp.int32), axis, mode="clip")
    return label


def _checked(batch: Batch, size: int | tuple[int, int], fill: tuple[float, ...]) -> tuple[int, int]:
    """Height and width of the crop; refuses what does not fit."""
    image_size(batch, "scaled_crop")
    shape, crop = batch.image.shape, size if isinstance(size, tuple) else (size, size)
    if len(crop) != 2 or any(type(side) is not int or side < 1 for side in crop):
        raise ValueError(
            f"scaled_crop's size must be a whole number of pixels, or height and width, such as "
            f"(512, 1024), but it is {size!r}."
        )
    fits = isinstance(fill, tuple) and len(fill) in (1, shape[-1])
    if len(shape) != 4 or not fits or not all(isinstance(each, numbers.Real) for each in fill):
        raise ValueError(
            "scaled_crop needs images [B, H, W, K] and a tuple of one number in fill, or of K, but "
            f"the images are {list(shape)} and fill is {fill}."
        )
    return crop
