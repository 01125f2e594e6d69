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
from experiments.evaluation import metrics, unsure
from experiments.evaluation.answers import Sampled, answer
from experiments.evaluation.class_names import mapped_labels
from experiments.evaluation.classification import measured
from experiments.evaluation.perturbations import CLIPPED, KINDS, View

# From which all draws are derived: of the run's seeds they are independent.
ROOT = 20

MEASURED = ("prediction", "nll", "confidence")
SCORES = (metrics.accuracy, metrics.nll, metrics.ece)
# Of another data set, where classes are few, also by class and of what is right but not sure.
MORE_MEASURED = (*MEASURED, "probability", "uncertainty")
MORE_SCORES = (
    *SCORES,
    metrics.class_accuracy,
    metrics.class_count,
    unsure.unsure_count,
    unsure.unsure_probability,
    unsure.unsure_uncertainty,
    unsure.unsure_by_class,
)


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
      draws: how often what is random is drawn anew.
      sampled: how answers are sampled; None for the network's own logits, which attacks follow.
    """

    text: str
    kind: str
    levels: tuple[float, ...]
    options: tuple[tuple[str, Any], ...]
    examples: int
    draws: int = 1
    sampled: Sampled | None = None

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
    def clips(self) -> bool:
        """Whether it clips pixels to [0, 1], so that images of another range would be others."""
        return self.kind in CLIPPED or dict(self.options).get("protocol") == "pixel"

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
          "label" `[B]`, and "prediction", "nll" and "confidence", each `[B, L]`, or `[B, L, D]` of
          D draws; of another data set also "probability" and "uncertainty".
        """
        pixels = normalise(examples.stored["image"])
        label = jax.nn.one_hot(examples.stored["label"], task.classes)
        batch = rj.Batch(pixels, label, examples.number)
        network = task.network(state).frozen()
        names = MORE_MEASURED if self.kind == "dataset" else MEASURED

        def of_draw(key: jax.Array) -> dict[str, jax.Array]:
            view = View(network, task.prepare, task.dtype, key)
            at = KINDS[self.kind].function(view, batch, **dict(self.options))

            def answers(level: jax.Array) -> dict[str, jax.Array]:
                logits, more = answer(self.sampled, view.outputs(at(level)), batch)
                found = measured(names, logits, label)
                return found | {name: x for name, x in more.items() if name in found}

            return jax.lax.map(answers, jnp.asarray(self.levels, jnp.float32))

        root = jax.random.key(ROOT)
        if self.draws == 1:
            found = of_draw(root)
        else:
            others = [jax.random.fold_in(root, draw) for draw in range(1, self.draws)]
            found = jax.lax.map(of_draw, jnp.stack([root, *others]))
        return measured(("label",), label, label) | {name: x.T for name, x in found.items()}

    def scores(self, rows: metrics.Rows) -> dict[str, list[Any]]:
        """The "accuracy", "nll" and "ece" at each level, of the rows that have a label.

        Of several draws they are means, and "accuracy_by_draw" has each one's accuracy. Of another
        data set there are `MORE_SCORES`, by class up to the last that occurs.
        """
        levels = [self._scores_at(rows, i) for i in range(rows["prediction"].shape[1])]
        return {name: [level[name] for level in levels] for name in levels[0]}

    def _scores_at(self, rows: metrics.Rows, level: int) -> dict[str, Any]:
        every = MORE_SCORES if self.kind == "dataset" else SCORES
        several = range(self.draws) if self.draws > 1 else (...,)
        each = {m.function.__name__: [m(_at(rows, level, d)) for d in several] for m in every}
        found = {name: _mean(values) for name, values in each.items()}
        return found | ({"accuracy_by_draw": each["accuracy"]} if self.draws > 1 else {})


def _at(rows: metrics.Rows, level: int, draw: Any) -> metrics.Rows:
    """The rows at a level and of a draw."""
    found = {n: x if n == "label" else x[:, level, draw] for n, x in rows.items()}
    return found | {"classes": np.array(0)}


def _mean(values: Sequence[Any]) -> Any:
    if len(values) == 1:
        return values[0]
    return None if None in values else float(np.mean(values))


def joined(scores: Sequence[dict[str, list[metrics.Value]]]) -> dict[str, list[metrics.Value]]:
    """The scores of a perturbation's parts, one after the other."""
    return {name: [value for part in scores for value in part[name]] for name in scores[0]}
