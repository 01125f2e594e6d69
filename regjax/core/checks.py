"""Checks of shapes and dtypes at trace time: one sentence that names what was given."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from regjax.core.batch import Batch

_ROUNDING = 4  # units in the last place, as normalising and back may cost


def check_batch(batch: Batch) -> None:
    """Refuses, at trace time, what is no batch of images and label probabilities."""
    image, label = batch.image, batch.label
    for name, array in (("image", image), ("label", label)):
        if not hasattr(array, "dtype"):
            raise TypeError(f"Batch.{name} must be an array, but it is a {type(array).__name__}.")
    if not jnp.issubdtype(label.dtype, jnp.floating):
        raise TypeError(
            f"Batch.label must hold probabilities [B, C], but it is {_describe(label)}: make them "
            "with jax.nn.one_hot(label, classes)."
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"Batch.image must be floating, since losses differentiate by it, but it is "
            f"{_describe(image)}: convert it, for example with image.astype('float32') / 255."
        )
    if label.ndim < 2 or image.ndim < 2 or image.shape[0] != label.shape[0]:
        raise ValueError(
            "Batch.image [B, ...] and Batch.label [B, C] must have the same B, but they are "
            f"{_describe(image)} and {_describe(label)}."
        )
    if batch.index is not None and not jnp.issubdtype(batch.index.dtype, jnp.integer):
        raise TypeError(f"Batch.index must be integers, but it is {_describe(batch.index)}.")
    for name in ("index", "weight"):
        array = getattr(batch, name)
        if array is not None and array.shape != image.shape[:1]:
            raise ValueError(
                f"Batch.{name} must have shape [{image.shape[0]}], one entry an image, but it is "
                f"{_describe(array)}."
            )


def check_one_label(batch: Batch, name: str) -> None:
    """Refuses, at trace time, dense labels where a stage would not know what to do with them."""
    if batch.label.ndim != 2:
        raise ValueError(
            f"{name} is for one label an image, Batch.label [B, C], but it is "
            f"{_describe(batch.label)}."
        )


def check_logits(logits: jax.Array, batch: Batch) -> None:
    """Refuses, at trace time, logits that do not match the labels."""
    if logits.shape != batch.label.shape:
        raise ValueError(
            f"the network's logits are {_describe(logits)}, but Batch.label is "
            f"{_describe(batch.label)}: both must be [B, C], or [B, ..., C] for dense predictions, "
            "with the same C classes."
        )


def check_term(name: str, value: Any, batch: Batch, *, scalar: bool) -> jax.Array:
    """Refuses, at trace time, what a stage returned if it is not one number an example."""
    size = batch.image.shape[0]
    expected = f"[{size}], one number an example{', or a scalar' if scalar else ''}"
    if isinstance(value, int | float):
        value = jnp.asarray(value, float)
    if not hasattr(value, "dtype"):
        raise TypeError(f"{name} must return {expected}, but it returned {type(value).__name__}.")
    if value.shape != (size,) and not (scalar and value.shape == ()):
        raise ValueError(f"{name} must return {expected}, but it returned {_describe(value)}.")
    return value


def check_scalar(name: str, value: Any) -> None:
    """Refuses, at trace time, several numbers where one is meant.

    Args:
      name: of the number, for the error.
      value: a number, or an array `[]`.

    Raises:
      ValueError: it is an array of another shape.
    """
    shape = np.shape(value)
    if shape:
        raise ValueError(
            f"{name} must be one number, got shape {list(shape)}: jax.vmap or jax.lax.map over it "
            "takes several."
        )


def check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuses, at trace time, what is none of the texts that are known."""
    if value not in known:
        raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, but it is {value!r}.")


def check_count(name: str, count: int) -> None:
    """Refuses, at trace time, what is no whole number of at least 1."""
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"{name} must be a Python integer, got {count!r}.")
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}.")


def check_bounds(
    image: jax.Array,
    low: float,
    high: float,
    *,
    expects: str,
    remedy: str,
    weight: jax.Array | None = None,
) -> None:
    """Refuses images that leave the bounds by more than rounding, where there are numbers to see.

    Args:
      image: `[B, ...]`; not looked at where it is traced or on other processes' devices.
      low: the least value.
      high: the largest value.
      expects: the beginning of the error, such as "pgd keeps images within [0, 1]".
      remedy: its end.
      weight: `[B]`; images of weight 0 do not count.

    Raises:
      ValueError: an image is beyond the bounds, or holds NaN.
    """
    if isinstance(image, jax.core.Tracer) or isinstance(weight, jax.core.Tracer):
        return
    if not getattr(image, "is_fully_addressable", True):
        return
    seen = np.asarray(image)  # of NumPy, since the caller may be traced though the batch is not
    if weight is not None:
        seen = seen[np.asarray(weight) != 0]
    steps = max(float(jnp.finfo(image.dtype).eps), float(jnp.finfo(jnp.float32).eps))
    slack = _ROUNDING * steps * max(abs(low), abs(high))
    if not np.all((seen >= low - slack) & (seen <= high + slack)):
        raise ValueError(
            f"{expects}, but these reach from {seen.min():.8g} to {seen.max():.8g}: {remedy}."
        )


def _describe(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"
