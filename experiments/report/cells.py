"""What stands in tables: numbers as text, and tables of them as Markdown."""

from __future__ import annotations

import dataclasses


def cell(
    mean: float | None,
    std: float | None = None,
    *,
    decimals: int = 2,
    bold: bool = False,
    n: int | None = None,
) -> str:
    """Returns a mean ± its standard deviation as text.

    Args:
      mean: "-" where there is none.
      std: left out where there is none.
      decimals: how many of both.
      bold: whether both are in bold.
      n: over how many runs; left out where that is said elsewhere.
    """
    if mean is None:
        return "-"
    text = f"{mean:.{decimals}f}" + ("" if std is None else f" ± {std:.{decimals}f}")
    text = f"**{text}**" if bold else text
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
    return (
        text if mean is None or difference is None else f"{text} ({signed(difference, decimals)})"
    )


def signed(difference: float, decimals: int = 2) -> str:
    """Returns a difference with its sign; what rounds to 0 is +0, whatever it was."""
    return f"{round(difference, decimals) + 0.0:+.{decimals}f}"


def interval(low: float | None, high: float | None, decimals: int = 2) -> str:
    """Returns the signed ends of an interval of differences; "-" where there is none."""
    if low is None or high is None:
        return "-"
    return f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def minus(ours: float | None, theirs: float | None) -> float | None:
    """Returns the difference; None where a number is missing."""
    return None if ours is None or theirs is None else ours - theirs


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
