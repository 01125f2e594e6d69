"""The two figures of a comparison: the main score against training size, and against strength."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.report.plots import Style, by_size, label, legend, styles
from experiments.report.published import Paper
from experiments.report.scoring import Scoring
from experiments.runs.selection import Row


def accuracy_by_size(
    rows: Sequence[Row], methods: Sequence[str], paper: Paper, scoring: Scoring
) -> Figure:
    """Draws the main score against training size; error bars are standard deviations.

    Args:
      rows: the chosen row of each method and training size.
      methods: the methods' names, in the order of the legend.
      paper: published (mean, standard deviation) by (method, training size): hollow markers, at
        the training sizes that were run.
      scoring: names the main score.
    """
    ours = {(row.method, row.train_size): _mean_std(row) for row in rows}
    theirs = {c: (paper[c][0], paper[c][1] or 0.0) for c in ours if c in paper}
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.subplots()
    _sizes(axes, ours, theirs, styles(methods, rows))
    axes.set_ylabel(scoring.title)
    if theirs:
        axes.errorbar([], [], [], fmt="o", color="grey", mfc="white", label="published")
    legend(figure)
    return figure


def accuracy_by_strength(
    rows: Sequence[Row], chosen: Sequence[Row], methods: Sequence[str], scoring: Scoring
) -> Figure:
    """Draws the main score against strength, one panel per training size.

    A line is a mean and its band the standard deviation; a large marker is the chosen strength; a
    method without a strength is a horizontal line. Strengths where a run diverged are left out, and
    a panel ends where no chosen strength is near: lines that collapse run out of it.

    Args:
      rows: a row of each method, training size and strength.
      chosen: the chosen ones among them.
      methods: the methods' names, in the order of the legend.
      scoring: names the main score.
    """
    figure, panels = by_size(row.train_size for row in rows)
    known = {row.method for row in rows}
    look = {name: style for name, style in styles(methods, rows).items() if name in known}
    for size, axes in panels.items():
        mine = [row for row in rows if row.train_size == size]
        _strengths(axes, mine, chosen, look)
        _crop(axes, [row for row in mine if row in chosen], scoring.main.larger_is_better)
    figure.supxlabel("strength (what {strength} is in the config's losses)", fontsize="medium")
    figure.supylabel(scoring.title, fontsize="medium")
    legend(figure)
    return figure


def _sizes(axes: Axes, ours: Paper, theirs: Paper, look: Mapping[str, Style]) -> None:
    places = _places({size for _, size in ours})
    for (method, style), shifts in zip(
        look.items(), _shifts(sorted(places.values()), len(look)), strict=True
    ):
        bars = style | {"elinewidth": 1, "capsize": 2}
        named = bars | {"label": label(method)}
        hollow = bars | {"linestyle": "none", "markerfacecolor": "white", "alpha": 0.7}
        for cells, shift, look_of in zip((ours, theirs), shifts, (named, hollow), strict=True):
            _bars(axes, cells, method, {s: x * shift for s, x in places.items()}, look_of)
    axes.set(xscale="log", xlabel="training images per class")
    axes.set_xticks(list(places.values()), [str(size or "all") for size in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", alpha=0.3)


def _places(sizes: Iterable[int]) -> dict[int, int]:
    """Where the training sizes stand on the axis; all images, 0, beyond the others."""
    known = sorted(size for size in sizes if size)
    places = {size: size for size in known}
    return places if len(known) == len(set(sizes)) else {**places, 0: 2 * max(known, default=1)}


def _bars(axes: Axes, cells: Paper, method: str, places: Mapping[int, float], style: Style) -> None:
    points = [(places[size], *value) for (name, size), value in cells.items() if name == method]
    if points:
        x, mean, std = np.array(points).T
        axes.errorbar(x, mean, std, **style)


def _strengths(
    axes: Axes, rows: Sequence[Row], chosen: Sequence[Row], look: Mapping[str, Style]
) -> None:
    for method, style in look.items():
        mine = [row for row in rows if row.method == method and row.mean is not None]
        _curve(axes, mine, chosen, style | {"label": label(method)})
    if any(row.strength and row.mean is not None for row in rows):  # A log scale needs data.
        axes.set_xscale("log")
    axes.grid(alpha=0.3)


def _crop(axes: Axes, chosen: Sequence[Row], larger_is_better: bool) -> None:
    sign = 1 if larger_is_better else -1
    worst = [sign * row.mean - (row.std or 0.0) for row in chosen if row.mean is not None]
    if not worst:  # All runs diverged, and the axes hold no data.
        return
    low, top = sorted((sign * axes.dataLim.y0, sign * axes.dataLim.y1))
    room = top - min(worst)
    if room > 0:
        ends = (max(low, top - 2 * room) - 0.05 * room, top + 0.05 * room)
        axes.set_ylim(*sorted(sign * end for end in ends))


def _curve(axes: Axes, rows: Sequence[Row], chosen: Sequence[Row], style: Style) -> None:
    means, stds = np.array([_mean_std(row) for row in rows]).reshape(-1, 2).T
    band: Style = {"color": style["color"], "alpha": 0.08, "linewidth": 0}
    if rows and rows[0].strength is None:
        axes.axhline(means[0], **style | {"marker": ""})
        axes.axhspan(means[0] - stds[0], means[0] + stds[0], **band)
        return
    strengths = np.array([row.strength for row in rows], float)
    axes.plot(strengths, means, **style, markevery=[row in chosen for row in rows])
    axes.plot(strengths, means, ".", color=style["color"], markersize=3)
    axes.fill_between(strengths, means - stds, means + stds, **band)


def _mean_std(row: Row) -> tuple[float, float]:
    """A diverged mean leaves a gap in the line, a missing deviation no bar."""
    return (math.nan if row.mean is None else row.mean, row.std or 0.0)


def _shifts(sizes: Sequence[float], methods: int) -> np.ndarray:
    """Factors on the training size, `[methods, 2]`: where ours and the paper's numbers stand."""
    ratio = min((b / a for a, b in itertools.pairwise(sizes)), default=2.0)
    # Lines that rise would seem to lie one above the other if they were shifted far.
    return ratio ** np.linspace(-0.08, 0.08, 2 * methods).reshape(methods, 2)
