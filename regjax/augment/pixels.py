"""Images as pixels in [0, 1], for stages that are told how these were normalised."""

from __future__ import annotations

import numbers
from typing import Any

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch


def scale(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """By what images are taken back to pixels, each `[1, 1, 1, K]` or `[1, 1, 1, 1]`.

    Example:
      >>> [each.shape for each in scale((0.5,), (), "float32")]
      [(1, 1, 1, 1), (1, 1, 1, 1)]
    """
    given = (mean or (0.0,), std or (1.0,))
    mean_of, std_of = (jnp.asarray(each, dtype).reshape(1, 1, 1, -1) for each in given)
    return mean_of, std_of


def check(batch: Batch, stage: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Refuses what has no pixels of 1 or 3 channels, or a scale that does not fit them.

    Args:
      batch: the images, `[B, H, W, K]`.
      stage: the name of the stage, for the error.
      mean: of pixels, one for all channels or one for each; () for 0.
      std: likewise, () for 1.

    Raises:
      ValueError: as above, or dense labels.
    """
    shape = batch.image.shape
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(
            f"{stage} needs images [B, H, W, K] of K = 1 or 3 channels, but Batch.image is "
            f"{list(shape)}."
        )
    if batch.label.ndim > 2:
        raise ValueError(
            f"{stage} does not move dense labels as it moves pixels, but Batch.label is "
            f"{list(batch.label.shape)}: use random_crop and random_flip, which do."
        )
    for name, given in (("mean", mean), ("std", std)):
        fits = isinstance(given, tuple) and len(given) in (0, 1, shape[-1])
        if not fits or not all(isinstance(each, numbers.Real) for each in given):
            raise ValueError(
                f"{stage}'s {name} must be a tuple of one number for all channels or of one "
                f"for each, but it is {given!r} and the images are {list(shape)}."
            )
    if not all(each > 0 for each in std):
        raise ValueError(f"{stage}'s std must be above 0, but it is {std}.")
