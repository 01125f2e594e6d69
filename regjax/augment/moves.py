"""Crops and flips, drawn for each example."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.augment.regions import image_size
from regjax.core.batch import Batch, example_keys
from regjax.core.forward import Forward
from regjax.core.stages import Number, wrapper


@wrapper
def random_crop(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    padding: Number,
    fill: tuple[float, ...] = (0.0,),
) -> tuple[Forward, Batch]:
    """Crops each image at random out of itself with a margin, back to its size.

    The image is moved by a whole number of pixels, uniform in `-padding..padding`, along each side;
    what comes in from outside is `fill`. See "Deep Residual Learning for Image Recognition" (He et
    al., 2016), 4.2. Each example draws by `batch.index`.

    Helps wherever objects are not centred to the pixel; 4 on CIFAR. Costs nothing.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, K]` (positional).
      padding: the margin in pixels; a fraction of a pixel is dropped.
      fill: one number for all channels or one for each. On normalised images black is
        `-mean / std`, the zero padding of pixels.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, K]`, or `fill` is no tuple that
        fits K.

    Example:
      >>> import regjax as rj
      >>> rj.random_crop(rj.cross_entropy(), padding=4)
      cross_entropy | random_crop(padding=4.0)
    """
    size, image = image_size(batch, "random_crop"), batch.image
    fits = isinstance(fill, tuple) and len(fill) in (1, image.shape[-1])
    if image.ndim != 4 or not fits:
        raise ValueError(
            "random_crop needs images [B, H, W, K] and a tuple of one number in fill, or of K, but "
            f"the images are {list(image.shape)} and fill is {fill}."
        )
    margin = jnp.floor(jnp.asarray(padding, jnp.float32))
    outside = jnp.asarray(fill, image.dtype)[None, None]

    def inside(shift: jax.Array, length: int) -> jax.Array:
        place = jnp.arange(length) + shift
        return (place >= 0) & (place < length)

    def moved(key: jax.Array, image: jax.Array) -> jax.Array:
        drawn = jnp.floor(jax.random.uniform(key, (2,), jnp.float32) * (2 * margin + 1)) - margin
        down, right = drawn.astype(jnp.int32)
        known = (inside(down, size[0])[:, None] & inside(right, size[1])[None, :])[..., None]
        return jnp.where(known, jnp.roll(image, (-down, -right), (0, 1)), outside)

    return forward, batch.replace(image=jax.vmap(moved)(example_keys(key, batch), image))


@wrapper
def random_flip(
    forward: Forward, batch: Batch, key: jax.Array, *, rate: Number = 0.5
) -> tuple[Forward, Batch]:
    """Turns some images' left to the right.

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
      ValueError: at trace time, the images are not `[B, H, W, ...]`.

    Example:
      >>> import regjax as rj
      >>> rj.random_flip(rj.cross_entropy())
      cross_entropy | random_flip
    """
    image_size(batch, "random_flip")
    image = batch.image
    uniform = jax.vmap(lambda key: jax.random.uniform(key, dtype=jnp.float32))
    turned = uniform(example_keys(key, batch)) < rate
    turned = turned.reshape(-1, *[1] * (image.ndim - 1))
    return forward, batch.replace(image=jnp.where(turned, jnp.flip(image, 2), image))
