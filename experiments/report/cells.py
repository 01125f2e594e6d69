"""What stands in tables: numbers as text, and tables of them as Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


def cell(
    mean: float | None,
    std: float | None = None,
    *,
    decimals: int = 2,
    best: float | None = None,
    n: int | None = None,
) -> str:
    """Returns a mean ± its standard deviation as text, in bold where it is the best.

    Args:
      mean: "-" where there is none.
      std: left out where there is none.
      decimals: how many of both.
      best: of the means that it stands among.
      n: over how many runs; left out where that is said elsewhere.
    """
    if mean is None:
        return "-"
    text = f"{mean:.{decimals}f}" + ("" if std is None else f" ± {std:.{decimals}f}")
    text = f"**{text}**" if mean == best else text
    return text if n is None else f"{text} (n={n})"


def beside(
    mean: float | None,
    std: float | None = None,
    *,
    difference: float | None = None,
    decimals: int = 2,
) -> str:
    """Returns `cell` with a signed difference behind it; left out where there is none."""
    text = cell(mean, std, decimals=decimals)
    return text if mean is None or difference is None else f"{text} ({difference:+.{decimals}f})"


def minus(ours: float | None, theirs: float | None) -> float | None:
    """Returns the difference; None where a number is missing."""
    return None if ours is None or theirs is None else ours - theirs


def best_of(means: Iterable[float | None], larger_is_better: bool = True) -> float | None:
    """Returns the best of the means that there are."""
    known = [mean for mean in means if mean is not None]
    return (max if larger_is_better else min)(known, default=None)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      title: the title above it.
      columns: the columns' names.
      lines: a name and cells, one fewer than there are columns.
    """

    title: str
    columns: list[str]
    lines: list[tuple[str, list[str]]]

    def markdown(self) -> str:
        """Returns the table in Markdown, under its title."""
        rows = [self.columns, *([name, *cells] for name, cells in self.lines)]
        text = ["| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in rows]
        text.insert(1, "|" + " --- |" * len(self.columns))
        return f"{self.title}\n\n" + "\n".join(text)
