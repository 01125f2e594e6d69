"""What a network's answers to every pixel are worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.evaluation.metrics import Rows, Value, metric
from experiments.evaluation.views import WHOLE, Views


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """An evaluation of tasks whose labels are `[B, H, W, C]`, all 0 at pixels to ignore.

    Attributes:
      classes: C, the number of classes.
      views: of each image, over which the network's logits are averaged.
    """

    classes: int
    views: Views = WHOLE

    def measure(self, task: Any, state: Any, examples: Any) -> dict[str, jax.Array]:
        """Each image's labelled pixels, counted.

        Args:
          task: with `batch` and `network`.
          state: of a trained run.
          examples: as stored.

        Returns:
          int32: "confusion" `[B, C, C]`, by true and by predicted class, and "unanswered" `[B, C]`,
          the pixels of each class at which the network's answer is NaN, in any view.
        """
        batch = task.batch(examples)
        forward = task.network(state).frozen()
        logits = self.views.logits(lambda x: forward(x).logits, batch.image, self.classes)
        nothing = jnp.any(jnp.isnan(logits), -1)
        prediction = jnp.where(nothing, self.classes, jnp.argmax(logits, -1))
        answers = self.classes + 1
        place = jnp.argmax(batch.label, -1) * answers + prediction
        # An index out of range is dropped.
        place = jnp.where(jnp.any(batch.label != 0, -1), place, self.classes * answers)
        zeros = jnp.zeros(self.classes * answers, jnp.int32)
        counts = jax.vmap(lambda place: zeros.at[place].add(1, mode="drop"))(
            place.reshape(len(place), -1)
        )
        counts = counts.reshape(-1, self.classes, answers)
        return {"confusion": counts[..., :-1], "unanswered": counts[..., -1]}

    def scores(self, rows: Rows) -> dict[str, Value]:
        """The intersections over unions and the share of pixels whose class is predicted."""
        return {"miou": miou(rows), "iou": iou(rows), "accuracy": _accuracy(rows)}


@metric(
    needs=("confusion", "unanswered"),
    words="intersection over union by class (%)",
    percent=True,
    decimals=2,
    larger_is_better=None,
)
def iou(rows: Rows) -> Value:
    """Intersection over union of each class over all images; None for one that never occurs.

    A class occurs where a labelled pixel is of it or is predicted to be.
    """
    return list(_ious(rows))


@metric(
    needs=("confusion", "unanswered"),
    words="mean intersection over union (%)",
    percent=True,
    decimals=2,
)
def miou(rows: Rows) -> Value:
    """The mean of `iou` over the classes that occur; None where none does."""
    found = [value for value in _ious(rows) if value is not None]
    return float(np.mean(found)) if found else None


def _ious(rows: Rows) -> Iterator[float | None]:
    confusion = rows["confusion"].sum(0, dtype=np.int64)
    truth = confusion.sum(1) + rows["unanswered"].sum(0, dtype=np.int64)
    both = np.diag(confusion)
    either = truth + confusion.sum(0) - both
    for intersection, union in zip(both, either, strict=True):
        yield float(intersection / union) if union else None


def _accuracy(rows: Rows) -> Value:
    confusion = rows["confusion"].sum(0, dtype=np.int64)
    pixels = confusion.sum() + rows["unanswered"].sum(dtype=np.int64)
    return float(np.trace(confusion) / pixels) if pixels else None
