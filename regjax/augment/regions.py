"""Parts of images, as masks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch


def image_size(batch: Batch, stage: str) -> tuple[int, int]:
    """Height and width of the images; refuses, at trace time, what has none."""
    shape = batch.image.shape
    if len(shape) < 3:
        raise ValueError(f"{stage} needs images [B, H, W, ...], but Batch.image is {list(shape)}.")
    return shape[1], shape[2]


def has_dense_labels(batch: Batch, stage: str) -> bool:
    """Whether labels are dense, one a pixel; refuses, at trace time, those of another size."""
    label, image = batch.label.shape, batch.image.shape
    if len(label) > 2 and (len(label) != 4 or label[1:3] != image[1:3]):
        raise ValueError(
            f"{stage} moves dense labels as it moves pixels, but Batch.label is {list(label)} and "
            f"Batch.image {list(image)}: give labels [B, H, W, C] at the size of the images."
        )
    return len(label) > 2


def box(key: jax.Array, size: tuple[int, int], sides: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Which pixels of an image lie in a box with its centre at a random pixel, clipped.

    Args:
      key: draws the centre, uniformly.
      size: height and width of the image.
      sides: `[]` each, whole numbers: height and width of the box, which begins at
        `centre - side // 2`.

    Returns:
      `[H, W]` bool.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> print(box(jax.random.key(0), (9, 9), (jnp.array(1.0), jnp.array(1.0))).sum())
      1
    """

    def along(key: jax.Array, length: int, side: jax.Array) -> jax.Array:
        start = jax.random.randint(key, (), 0, length) - jnp.floor(side / 2)
        pixel = jnp.arange(length)
        return (pixel >= start) & (pixel < start + side)

    rows, columns = (
        along(k, *each)
        for k, each in zip(jax.random.split(key), zip(size, sides, strict=True), strict=True)
    )
    return rows[:, None] & columns[None, :]


def spread(inside: jax.Array, image: jax.Array) -> jax.Array:
    """A mask `[H, W]` or `[B, H, W]`, broadcast to `image [B, H, W, ...]`."""
    lead = inside.shape if inside.ndim == 3 else (1, *inside.shape)
    return jnp.broadcast_to(inside.reshape(*lead, *[1] * (image.ndim - 3)), image.shape)
