"""What must be known of a data set to build and load a network for it, as JSON can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.data.whitening import Zca


class Spec(NamedTuple):
    """The shape of a data set.

    Attributes:
      example: one stored example, a dict of `jax.ShapeDtypeStruct`.
      classes: the number of classes.
      class_names: the classes' names.
      scored: the split that is scored, "test" or "validation".
      zca: what whitening has learnt from the training images, where it has; a file of its own,
        and no part of the JSON.
    """

    example: Mapping[str, jax.ShapeDtypeStruct]
    classes: int
    class_names: tuple[str, ...]
    scored: str = "test"
    zca: Zca | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an image, `(H, W, K)`."""
        return self.example["image"].shape

    def to_json(self) -> dict[str, Any]:
        """A dict that `from_json` reads."""
        example = {n: [np.dtype(x.dtype).name, list(x.shape)] for n, x in self.example.items()}
        rest = {"classes": self.classes, "class_names": list(self.class_names)}
        return {"example": example, **rest, "scored": self.scored}


def of_arrays(
    arrays: Mapping[str, Any], classes: int, class_names: tuple[str, ...], scored: str
) -> Spec:
    """The spec of stored arrays `[N, ...]`."""
    example = {n: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for n, x in arrays.items()}
    return Spec(example, classes, class_names, scored)


def from_json(stored: Mapping[str, Any]) -> Spec:
    """The spec that `Spec.to_json` wrote.

    Raises:
      ValueError: it did not write this.
    """
    try:
        example = {
            name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
            for name, (dtype, shape) in stored["example"].items()
        }
        names = tuple(map(str, stored["class_names"]))
        return Spec(example, int(stored["classes"]), names, str(stored["scored"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no description of a data set: {error!r}") from None
