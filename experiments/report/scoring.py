"""Which scores of a comparison are shown, and what they are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.runs.about import About
from experiments.runs.shown import Shown, shown


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How a comparison is scored.

    Attributes:
      score: the name of the main score, by which strengths are chosen.
      columns: the names of the scores that the table shows, the main one among them.
      scored: the split that is scored, "test" or "validation".
      class_names: the classes' names, as far as they are known.
    """

    score: str = "accuracy"
    columns: tuple[str, ...] = ("accuracy",)
    scored: str = "test"
    class_names: tuple[str, ...] = ()

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
    def others(self) -> list[str]:
        """The columns besides the main score."""
        return [name for name in self.columns if name != self.score]


def of(config: Mapping[str, Any], about: About) -> Scoring:
    """Returns how a comparison is scored: the main score leads where "columns" do not name it.

    Args:
      config: the comparison's; older ones have no "columns".
      about: its experiment and data.
    """
    columns = tuple(config.get("columns", ()))
    columns = columns if about.score in columns else (about.score, *columns)
    if about.spec is None:
        return Scoring(about.score, columns)
    return Scoring(about.score, columns, about.spec.scored, tuple(about.spec.class_names))
