"""The two figures of a comparison: accuracy against training size, and against strength.

Both are matplotlib Figures of their own, built without pyplot and its global state.
"""

import io
import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.runs.selection import Row, amount

Paper = Mapping[tuple[str, int], tuple[float, float]]
Style = dict[str, Any]

# Okabe and Ito's colours without their yellow, too pale for thin lines, and two of Tol's: they stay
# apart under the common kinds of colour blindness, and in print the markers do.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#999933")
MARKERS = "osD^v<>hP"  # one more than colours, so that no two of 72 methods look the same


def accuracy_by_size(rows: Sequence[Row], methods: Sequence[str], paper: Paper) -> Figure:
    """Draws test accuracy against training size; error bars are standard deviations.

    Where a method has no strength (the baseline), a second panel shows the gain over its mean,
    ours over ours and the paper's over the paper's, with the same error bars.

    Args:
      rows: the chosen row of each method and training size.
      methods: the methods' names, in the order of the legend.
      paper: published (mean, standard deviation) in percent by (method, training size): hollow
        markers, at the training sizes that were run.
    """
    ours = {(row.method, row.train_size): _mean_std(row) for row in rows}
    theirs = {c: (paper[c][0], paper[c][1] or 0.0) for c in ours if c in paper}
    baseline = next((row.method for row in rows if row.strength is None), None)
    panels = 1 if baseline is None else 2
    figure = Figure(figsize=(1.4 + 4.6 * panels, 4.2), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    # Lines that rise would seem to lie one above the other if they were shifted far.
    _sizes(axes[0], ours, theirs, styles(methods, rows), spread=0.08)
    axes[0].set_ylabel("test accuracy (%)")
    if baseline is not None:
        gains = (_gain(ours, baseline), _gain(theirs, baseline))
        _sizes(axes[1], *gains, styles(methods, rows, linestyle="none"), spread=0.28)
        axes[1].axhline(0.0, color="black", linestyle="--", linewidth=1, zorder=0)
        axes[1].set_ylabel(f"gain over {label(baseline)} (percentage points)")
    if theirs:
        axes[0].errorbar([], [], [], fmt="o", color="grey", mfc="white", label="published")
    legend(figure)
    return figure


def accuracy_by_strength(
    rows: Sequence[Row], chosen: Sequence[Row], methods: Sequence[str]
) -> Figure:
    """Draws test accuracy against strength, one panel per training size.

    A line is a mean and its band the standard deviation; a large marker is the chosen strength; a
    method without a strength is a horizontal line. Strengths where a run diverged are left out, and
    a panel ends where no chosen strength is near: lines that collapse run out at the bottom.

    Args:
      rows: a row of each method, training size and strength.
      chosen: the chosen ones among them.
      methods: the methods' names, in the order of the legend.
    """
    figure, panels = by_size(row.train_size for row in rows)
    look = styles(methods, rows)
    for size, axes in panels.items():
        _strengths(axes, [r for r in rows if r.train_size == size], chosen, look)
    figure.supxlabel("strength (what {strength} is in the config's losses)", fontsize="medium")
    figure.supylabel("test accuracy (%)", fontsize="medium")
    legend(figure)
    return figure


def by_size(sizes: Iterable[int]) -> tuple[Figure, dict[int, Axes]]:
    """Returns an empty figure and its panels, one per training size."""
    sizes = sorted(set(sizes))
    columns = len(sizes) if len(sizes) <= 3 else math.ceil(len(sizes) / 2)
    lines = math.ceil(len(sizes) / columns)
    figure = Figure(figsize=(1.4 + 3.4 * columns, 0.6 + 3.2 * lines), layout="constrained")
    panels = {}
    for i, size in enumerate(sizes):
        panels[size] = figure.add_subplot(lines, columns, i + 1)
        panels[size].set_title(amount(size, "images "))
    return figure, panels


def legend(figure: Figure) -> None:
    """Puts the legend beside the panels: every label once, in the order of drawing."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(handles.values(), handles, loc="outside right center", frameon=False)


def label(name: str) -> str:
    """Returns a name from a config as matplotlib shows it: no formulas, no control characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    text = text if len(text) <= 30 else f"{text[:17]}…{text[-12:]}"
    # matplotlib leaves labels that begin with an underscore out of the legend.
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def render(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """Returns the file's bytes: for the same figure the same, and of SVG without a background."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"dpi": 150}
    if form == "svg":
        options = {"transparent": True, "metadata": {"Date": None}}
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "regjax"}),
    ):
        # A name in a script that matplotlib's font lacks: boxes in PNG, in SVG the reader's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()


def _sizes(
    axes: Axes, ours: Paper, theirs: Paper, look: Mapping[str, Style], spread: float
) -> None:
    places = _places({size for _, size in ours})
    for (method, style), shifts in zip(
        look.items(), _shifts(sorted(places.values()), len(look), spread), strict=True
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
    _crop(axes, [row for row in rows if row in chosen])


def _crop(axes: Axes, chosen: Sequence[Row]) -> None:
    lows = [row.mean - (row.std or 0.0) for row in chosen if row.mean is not None]
    if not lows:  # All runs diverged, and the axes hold no data.
        return
    top = axes.dataLim.y1
    room = top - min(lows)
    if room > 0:
        axes.set_ylim(max(axes.dataLim.y0, top - 2 * room) - 0.05 * room, top + 0.05 * room)


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


def _gain(cells: Paper, baseline: str) -> Paper:
    return {
        (method, size): (mean - cells[baseline, size][0], std)
        for (method, size), (mean, std) in cells.items()
        if (baseline, size) in cells
    }


def _shifts(sizes: Sequence[float], methods: int, spread: float) -> np.ndarray:
    """Factors on the training size, `[methods, 2]`: where ours and the paper's numbers stand."""
    ratio = min((b / a for a, b in itertools.pairwise(sizes)), default=2.0)
    return ratio ** np.linspace(-spread, spread, 2 * methods).reshape(methods, 2)


def styles(methods: Sequence[str], rows: Sequence[Row], **overrides: Any) -> dict[str, Style]:
    """Returns matplotlib's arguments for each method's line.

    Methods without a strength are dashed; the first, against which the others are read, is black.
    """
    plain = list(dict.fromkeys(row.method for row in rows if row.strength is None))
    return {
        method: {
            "color": "black" if method in plain[:1] else COLOURS[i % len(COLOURS)],
            "linestyle": "--" if method in plain else "-",
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 4.5,
            "linewidth": 1.3,
            **overrides,
        }
        for i, method in enumerate(methods)
    }
