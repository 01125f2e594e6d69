"""What a network's answers to images of one class each are worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.evaluation import roc, unsure  # noqa: F401 - register their metrics
from experiments.evaluation.answers import Sampled, answer, entropy
from experiments.evaluation.metrics import BUILT_IN, METRICS, Rows, Value

MANY_CLASSES = 100  # beyond which probabilities stay on the device unless they are asked for

Measurement = Callable[[jax.Array, jax.Array], jax.Array]


def _label(logits: jax.Array, label: jax.Array) -> jax.Array:
    del logits
    return jnp.where(jnp.any(label != 0, -1), jnp.argmax(label, -1), -1)


def _prediction(logits: jax.Array, label: jax.Array) -> jax.Array:
    del label
    # argmax names the first NaN: without this a network that diverged would score a tenth.
    return jnp.where(jnp.any(jnp.isnan(logits), -1), -1, jnp.argmax(logits, -1))


def _nll(logits: jax.Array, label: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(logits)
    # Zero times -inf would be NaN.
    return -jnp.sum(label * jnp.where((label == 0) & jnp.isneginf(log_p), 0.0, log_p), -1)


# Of logits and labels `[B, C]`.
MEASUREMENTS: dict[str, Measurement] = {
    "label": _label,
    "prediction": _prediction,
    "nll": _nll,
    "confidence": lambda logits, label: jnp.max(jax.nn.softmax(logits), -1),
    "probabilities": lambda logits, label: jax.nn.softmax(logits),
    "probability": lambda logits, label: jnp.sum(label * jax.nn.softmax(logits), -1),
    "uncertainty": lambda logits, label: entropy(jax.nn.log_softmax(logits)),
}


def measured(names: Iterable[str], logits: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """What metrics look at of each example, `[B]`, the probabilities `[B, C]`.

    Args:
      names: of `MEASUREMENTS`.
      logits: float32 `[B, C]`.
      label: `[B, C]`, all 0 where the example is to be left out, whose "label" is then -1.
    """
    return {name: MEASUREMENTS[name](logits, label) for name in names}


def known() -> tuple[str, ...]:
    """The names of the metrics that can be made of what is measured of a classifier."""
    measurable = {*MEASUREMENTS, "classes"}
    return tuple(name for name, metric in METRICS.items() if measurable.issuperset(metric.needs))


def usual(classes: int) -> tuple[str, ...]:
    """The metrics that come with this package, without those that are large for many classes."""
    large = ("auc", "confusion") if classes > MANY_CLASSES else ()
    return tuple(name for name in BUILT_IN if name not in large)


@dataclasses.dataclass(frozen=True)
class Classification:
    """An evaluation by registered metrics, of tasks whose labels are `[B, C]`.

    Attributes:
      classes: C, the number of classes.
      metrics: the names of the metrics; by default all that come with this package. "auc" is the
        one that needs the probabilities `[N, C]` on the host, "confusion" the one whose value has
        C * C numbers.
      sampled: how answers are sampled; None for the network's own logits.
    """

    classes: int
    metrics: tuple[str, ...] = BUILT_IN
    sampled: Sampled | None = None

    def __post_init__(self) -> None:
        """Looks whether the metrics are there and what they need can be measured.

        Raises:
          ValueError: a metric is unknown, or needs what is not measured of a classifier.
        """
        for name in self.metrics:
            if name not in known():
                raise ValueError(f"unknown metric {name!r}; known are: {', '.join(known())}.")

    def measure(self, task: Any, state: Any, examples: Any) -> dict[str, jax.Array]:
        """What the metrics need of each example, and its label, -1 where it has none.

        Args:
          task: with `batch` and `network`.
          state: of a trained run.
          examples: as stored.
        """
        batch = task.batch(examples)
        outputs = task.network(state).frozen()(batch.image)
        logits, more = answer(self.sampled, outputs, batch)
        needs = {need for name in self.metrics for need in METRICS[name].needs}
        names = [name for name in MEASUREMENTS if name in needs | {"label"}]
        found = measured(names, logits, batch.label)
        return found | {name: x for name, x in more.items() if name in found}

    def scores(self, rows: Rows) -> dict[str, Value]:
        """Each metric's value over all rows that have a label; None where no row has one."""
        rows = {**rows, "classes": np.array(self.classes)}
        return {name: METRICS[name](rows) for name in self.metrics}
