"""The evaluation of networks under a perturbation, at all of its levels in one program."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import regjax as rj
from experiments.data.preprocessing import normalise
from experiments.evaluation import metrics
from experiments.evaluation.class_names import mapped_labels
from experiments.evaluation.classification import measured
from experiments.evaluation.perturbations import KINDS, View

# From which all draws are derived: of the run's seeds they are independent.
ROOT = 20

MEASURED = ("prediction", "nll", "confidence")
SCORES = (metrics.accuracy, metrics.nll, metrics.ece)


class Perturbable(Protocol):
    """A task whose network can be seen from the pixels.

    Its stored examples are `{"image": uint8 or floats in [0, 1], "label": ints [N]}`.
    """

    @property
    def prepare(self) -> Any:
        """Pixels to the network's input, see `View`."""

    @property
    def dtype(self) -> Any:
        """What the network computes in."""

    @property
    def classes(self) -> int:
        """C."""

    def network(self, state: Any) -> rj.Forward:
        """A trained network as it is evaluated."""


@dataclasses.dataclass(frozen=True)
class Perturbation:
    """One of `KINDS` with its levels and options, an evaluation.

    Attributes:
      text: the expression that it was read from, see perturbation_entries.py.
      kind: its name in `KINDS`.
      levels: the levels, at least one.
      options: the arguments of the kind's function.
      examples: the number of test images, evenly spaced; 0 for all.
    """

    text: str
    kind: str
    levels: tuple[float, ...]
    options: tuple[tuple[str, Any], ...]
    examples: int

    @property
    def level(self) -> str:
        """What the levels are called; "" where there is only one, without a number."""
        # A report needs no module of a kind of somebody's own.
        return KINDS[self.kind].level if self.kind in KINDS else "level"

    @property
    def about(self) -> str:
        """The corruption or the data set that it is, or else its kind."""
        return dict(self.options).get("name", self.kind)

    @property
    def headings(self) -> tuple[str, ...]:
        """A table's words for each level, such as "sigma 0.1"."""
        if not self.level:
            return (self.about,)
        return tuple(f"{self.level} {level:.4g}" for level in self.levels)

    def reads(self, level: float) -> str | None:
        """The data set whose images are tested at a level; None for the experiment's own."""
        reads = KINDS[self.kind].reads
        return reads and reads(self.about, level)

    def parts(self) -> list[tuple[str | None, Perturbation]]:
        """The data sets to measure, None for the experiment's own, and what to measure on each.

        Of several data sets it is the same, and so one program. `joined` puts the scores together.
        """
        if self.reads(self.levels[0]) is None:
            return [(None, self)]
        one = dataclasses.replace(self, levels=(1.0,))
        return [(self.reads(level), one) for level in self.levels]

    def labels(
        self, label: np.ndarray, their_names: Sequence[str], our_names: Sequence[str]
    ) -> np.ndarray:
        """The labels of a data set that is read, as the networks number the classes.

        Raises:
          ValueError: the names and the option `map` do not fit.
        """
        if self.kind != "dataset":
            return label
        given = dict(self.options).get("map")
        return mapped_labels(label, their_names, our_names, dict(given) if given else None)

    def measure(self, task: Perturbable, state: Any, examples: Any) -> dict[str, jax.Array]:
        """The network's answers at all levels, in one loop on the device.

        Args:
          task: what was trained.
          state: of the run.
          examples: as stored; draws go by their index.

        Returns:
          "label" `[B]`, and "prediction", "nll" and "confidence", each `[B, L]`.
        """
        pixels = normalise(examples.stored["image"])
        label = jax.nn.one_hot(examples.stored["label"], task.classes)
        batch = rj.Batch(pixels, label, examples.number)
        network = task.network(state).frozen()
        view = View(network, task.prepare, task.dtype, jax.random.key(ROOT))
        at = KINDS[self.kind].function(view, batch, **dict(self.options))

        def answers(level: jax.Array) -> dict[str, jax.Array]:
            return measured(MEASURED, view.logits(at(level)), label)

        found = jax.lax.map(answers, jnp.asarray(self.levels, jnp.float32))
        return measured(("label",), label, label) | {name: x.T for name, x in found.items()}

    def scores(self, rows: metrics.Rows) -> dict[str, list[metrics.Value]]:
        """The "accuracy", "nll" and "ece" at each level, of the rows that have a label."""
        levels = range(rows["prediction"].shape[1])
        each = [{n: x if n == "label" else x[:, i] for n, x in rows.items()} for i in levels]
        return {m.function.__name__: [m(one) for one in each] for m in SCORES}


def joined(scores: Sequence[dict[str, list[metrics.Value]]]) -> dict[str, list[metrics.Value]]:
    """The scores of a perturbation's parts, one after the other."""
    return {name: [value for part in scores for value in part[name]] for name in scores[0]}
