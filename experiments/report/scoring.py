"""Which scores of a comparison are shown, and what they are called."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.runs.about import About
from experiments.runs.shown import Shown, shown

UNBALANCED = 1.5  # a class with so many times as many examples as another


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How a comparison is scored.

    Attributes:
      score: the name of the main score, by which strengths are chosen.
      columns: the names of the scores that the table shows, the main one among them.
      scored: the split that is scored, "test" or "validation".
      class_names: the classes' names, as far as they are known.
      class_count: the number of scored examples of each class, as far as it is known.
    """

    score: str = "accuracy"
    columns: tuple[str, ...] = ("accuracy",)
    scored: str = "test"
    class_names: tuple[str, ...] = ()
    class_count: tuple[int, ...] = ()

    @property
    def main(self) -> Shown:
        """How the main score is shown."""
        return shown(self.score)

    @property
    def title(self) -> str:
        """The split and the main score with its unit, such as "test accuracy (%)"."""
        return f"{self.scored} {self.main.words}"

    @property
    def heading(self) -> str:
        """The title as it stands at the beginning of a sentence."""
        return self.title[0].upper() + self.title[1:]

    @property
    def majority(self) -> str:
        """What always saying the largest class would score; "" where classes are balanced."""
        if not is_unbalanced(self.class_count):
            return ""
        largest = max(range(len(self.class_count)), key=self.class_count.__getitem__)
        known = largest < len(self.class_names)
        share = 100 * self.class_count[largest] / sum(self.class_count)
        name = self.class_names[largest] if known else largest
        return f"Always saying the largest class ({name}): {share:.1f} % accuracy."

    @property
    def others(self) -> list[str]:
        """The columns besides the main score."""
        return [name for name in self.columns if name != self.score]


def protocol(config: Mapping[str, Any]) -> str:
    """When a run is scored and what of it, in a sentence or two."""
    return " ".join(filter(None, [_when(config), _teachers(config)]))


def _when(config: Mapping[str, Any]) -> str:
    epochs = config.get("score_epochs", 1)
    if epochs < 2:
        return "Runs are scored at the end of the last epoch."
    tested = "; what is tested further is the last network" if config.get("perturbations") else ""
    return (
        f"Scores of a run are means over the ends of its last {epochs} epochs, curves are "
        f"not{tested}."
    )


def taught(config: Mapping[str, Any]) -> list[str]:
    """The methods of which the mean teacher is scored, and not the network that is trained."""
    if not config.get("evaluate_teacher", False):
        return []
    losses = config["losses"].items()
    return [method for method, loss in losses if re.search(r"\bmean_teacher\b", str(loss))]


def _teachers(config: Mapping[str, Any]) -> str:
    methods = ", ".join(taught(config))
    return f"The teacher is scored, not the network, of: {methods}." if methods else ""


def is_unbalanced(count: Sequence[int]) -> bool:
    """Whether some class occurs `UNBALANCED` times as often as another that occurs."""
    some = [each for each in count if each]
    return bool(some) and max(some) > UNBALANCED * min(some)


def of(
    config: Mapping[str, Any], about: About, records: Sequence[Mapping[str, Any]] = ()
) -> Scoring:
    """Returns how a comparison is scored: the main score leads where "columns" do not name it.

    Args:
      config: the comparison's; older ones have no "columns".
      about: its experiment and data.
      records: its finished runs, which say how many examples each class has: where those are
        unbalanced and no columns are named, balanced accuracy is one.
    """
    count = next((r["test_class_count"] for r in records if r.get("test_class_count")), ())
    known = bool(records) and all("test_balanced_accuracy" in record for record in records)
    columns = tuple(config.get("columns", ()))
    columns = columns if about.score in columns else (about.score, *columns)
    if columns == ("accuracy",) and known and is_unbalanced(count):
        columns = ("accuracy", "balanced_accuracy")
    if about.spec is None:
        return Scoring(about.score, columns, class_count=tuple(count))
    names = tuple(about.spec.class_names)
    return Scoring(about.score, columns, about.spec.scored, names, tuple(count))
