"""The figure of the differences to the baseline, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report import plots
from experiments.report.differences import Compared
from experiments.report.published import published
from experiments.report.scoring import Scoring
from experiments.runs.selection import Row


def draw(
    compared: Compared, chosen: Sequence[Row], config: Mapping[str, Any], scoring: Scoring
) -> Figure:
    """Draws each method's difference to the baseline, one panel per training size.

    Bars are 95 % intervals. A marker is filled where the difference is told from 0 after Holm's
    correction; grey crosses are the published means minus the baseline's published mean.

    Args:
      compared: with at least one difference.
      chosen: a row of each method and training size.
      config: the comparison's.
      scoring: names the main score.
    """
    methods = [method for method in config["losses"] if method != compared.baseline]
    figure, panels = plots.by_size(size for _, size in compared.differences)
    figure.set_figheight(figure.get_figheight() * (0.3 + 0.09 * len(methods)))
    look = plots.styles(list(config["losses"]), chosen, linestyle="none")
    paper = published(config)
    for size, axes in panels.items():
        for place, method in enumerate(methods):
            _bar(axes, compared, (method, size), place, look[method])
            ours, theirs = paper.get((method, size)), paper.get((str(compared.baseline), size))
            if ours and theirs:
                axes.plot(ours[0] - theirs[0], place, "x", color="grey", label="published")
        _finish(axes, methods)
    points = " (percentage points)" if scoring.main.percent else ""
    name = plots.label(str(compared.baseline))
    figure.supxlabel(
        f"{scoring.scored} {scoring.main.name} minus {name}'s{points}", fontsize="medium"
    )
    if paper:
        plots.legend(figure)
    return figure


def _bar(
    axes: Axes, compared: Compared, at: tuple[str, int], place: int, style: plots.Style
) -> None:
    found = compared.differences.get(at)
    if found is None:
        return
    ends = None
    if found.low is not None and found.high is not None:
        ends = [[found.mean - found.low], [found.high - found.mean]]
    face = style["color"] if found.is_told else "white"
    axes.errorbar(
        found.mean, place, xerr=ends, **style, markerfacecolor=face, elinewidth=1, capsize=2
    )


def _finish(axes: Axes, methods: Sequence[str]) -> None:
    axes.axvline(0.0, color="black", linestyle="--", linewidth=1, zorder=0)
    spec = axes.get_subplotspec()
    first = spec is None or spec.is_first_col()
    axes.set_yticks(range(len(methods)), [plots.label(m) if first else "" for m in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
