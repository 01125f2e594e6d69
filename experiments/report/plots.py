"""What all figures share: colours, lines, names, panels, legends, and the files' bytes.

All are matplotlib Figures of their own, built without pyplot and its global state.
"""

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.differences import baseline
from experiments.runs.selection import Row, amount

Style = dict[str, Any]

# Okabe and Ito's colours without their yellow, too pale for thin lines, and two of Tol's: they stay
# apart under the common kinds of colour blindness, and in print the markers do.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#999933")
MARKERS = "osD^v<>hP"  # one more than colours, so that no two of 72 methods look the same


def styles(methods: Sequence[str], rows: Sequence[Row], **overrides: Any) -> dict[str, Style]:
    """Returns matplotlib's arguments for each method's line.

    Methods without a strength are dashed; the baseline among them is black.
    """
    plain = {row.method: row.loss for row in rows if row.strength is None}
    first = baseline(plain)
    return {
        method: {
            "color": "black" if method == first else COLOURS[i % len(COLOURS)],
            "linestyle": "--" if method in plain else "-",
            "marker": MARKERS[i % len(MARKERS)],
            "markersize": 4.5,
            "linewidth": 1.3,
            **overrides,
        }
        for i, method in enumerate(methods)
    }


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
