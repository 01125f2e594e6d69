"""Crops and flips, drawn for each example; dense labels move along."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from regjax.augment.regions import has_dense_labels, image_size
from regjax.core.batch import Batch, example_keys
from regjax.core.forward import Forward
from regjax.core.stages import AtLeastZero, Share, wrapper


@wrapper
def random_crop(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    padding: AtLeastZero,
    fill: tuple[float, ...] = (0.0,),
    mode: Literal["constant", "reflect"] = "constant",
) -> tuple[Forward, Batch]:
    """Crops of each image, at random, out of itself with a margin, in its own size.

    The image is moved by a whole number of pixels, uniform in `-padding..padding`, along each side;
    what comes in from outside is `fill`. Dense labels move with it, and positions from outside have
    none. See "Deep Residual Learning for Image Recognition" (He et
    al., 2016), 4.2. With `mode="reflect"` the image goes on outside as in a mirror at the middle of
    its outermost pixels, and its dense labels too: `numpy.pad`'s mode of that name, 2 pixels in
    "Temporal Ensembling for Semi-Supervised Learning" (Laine and Aila, 2017), 3. Each example draws
    by `batch.index`.

    Helps wherever objects are not centred to the pixel; 4 on CIFAR. Costs nothing.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, K]` (positional).
      padding: the margin in pixels; a fraction of a pixel is dropped.
      fill: one number for all channels or one for each. On normalised images black is
        `-mean / std`, the zero padding of pixels.
      mode: `"constant"`, or `"reflect"`, where `fill` is of no meaning.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, K]`, `fill` is no tuple that fits K,
        there is no such mode, or dense labels are not `[B, H, W, C]`.

    Example:
      >>> import regjax as rj
      >>> rj.random_crop(rj.cross_entropy(), padding=4)
      cross_entropy | random_crop(padding=4.0)
    """
    size, image = image_size(batch, "random_crop"), batch.image
    dense = has_dense_labels(batch, "random_crop")
    fits = isinstance(fill, tuple) and len(fill) in (1, image.shape[-1])
    if image.ndim != 4 or not fits:
        raise ValueError(
            "random_crop needs images [B, H, W, K] and a tuple of one number in fill, or of K, but "
            f"the images are {list(image.shape)} and fill is {fill}."
        )
    if mode not in ("constant", "reflect"):
        raise ValueError(f"random_crop's mode must be 'constant' or 'reflect', not {mode!r}.")
    margin = jnp.floor(jnp.asarray(padding, jnp.float32))
    outside = jnp.asarray(fill, image.dtype)

    def inside(shift: jax.Array, length: int) -> jax.Array:
        place = jnp.arange(length) + shift
        return (place >= 0) & (place < length)

    def moved(key: jax.Array, array: jax.Array, outside: jax.Array) -> jax.Array:
        drawn = jnp.floor(jax.random.uniform(key, (2,), jnp.float32) * (2 * margin + 1)) - margin
        down, right = drawn.astype(jnp.int32)
        if mode == "reflect":
            return array[_reflected(down, size[0])][:, _reflected(right, size[1])]
        known = (inside(down, size[0])[:, None] & inside(right, size[1])[None, :])[..., None]
        return jnp.where(known, jnp.roll(array, (-down, -right), (0, 1)), outside[None, None])

    keys, each = example_keys(key, batch), jax.vmap(moved, (0, 0, None))
    nowhere = jnp.zeros(1, batch.label.dtype)
    label = each(keys, batch.label, nowhere) if dense else batch.label
    return forward, batch.replace(image=each(keys, image, outside), label=label)


def _reflected(shift: jax.Array, length: int) -> jax.Array:
    """The places `[length]` of what is seen through two mirrors from `shift` on."""
    period = max(2 * (length - 1), 1)
    place = (jnp.arange(length) + shift) % period
    return jnp.minimum(place, period - place)


@wrapper
def random_flip(
    forward: Forward, batch: Batch, key: jax.Array, *, rate: Share = 0.5
) -> tuple[Forward, Batch]:
    """Images of which some are mirrored left to right, and dense labels with them.

    Each example draws by `batch.index`. See "Deep Residual Learning for Image Recognition" (He et
    al., 2016), 4.2.

    Helps where a mirrored object is of the same class, as on CIFAR and ImageNet, unlike digits.
    Costs nothing.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, ...]` (positional).
      rate: the chance of an image to be turned.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, ...]`, or dense labels are not
        `[B, H, W, C]`.

    Example:
      >>> import regjax as rj
      >>> rj.random_flip(rj.cross_entropy())
      cross_entropy | random_flip
    """
    image_size(batch, "random_flip")
    dense = has_dense_labels(batch, "random_flip")
    uniform = jax.vmap(lambda key: jax.random.uniform(key, dtype=jnp.float32))
    turned = uniform(example_keys(key, batch)) < rate

    def flipped(array: jax.Array) -> jax.Array:
        which = turned.reshape(-1, *[1] * (array.ndim - 1))
        return jnp.where(which, jnp.flip(array, 2), array)

    label = flipped(batch.label) if dense else batch.label
    return forward, batch.replace(image=flipped(batch.image), label=label)
