"""Originals, reconstructed and moved images side by side, and the numbers of each column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.gallery.examples import by_class
from experiments.report import tiles

REACHED = 0.05  # the share of the features' variance below which features count as reached


class Row(NamedTuple):
    """Images of one kind, R for each of N originals.

    Attributes:
      name: of the kind.
      image: in [0, 1], `[R, N, H, W, K]`.
      features: squared distances of their features from what was wanted, `[R, N]`, as shares of the
        features' variance.
      pixels: mean squared distances of their pixels from the originals', `[R, N]`.
      kept: the share of them in whose class the judge finds them, or None without one.
    """

    name: str
    image: np.ndarray
    features: np.ndarray
    pixels: np.ndarray
    kept: float | None

    def numbers(self) -> dict[str, Any]:
        """The median and mean feature error, the share below REACHED, pixel error, the judge's."""
        return {
            "feature_error": float(np.median(self.features)),
            "mean_feature_error": float(np.mean(self.features)),
            "reached": float(np.mean(self.features < REACHED)),
            "pixel_error": float(np.mean(self.pixels)),
            "class_kept": self.kept,
        }


def table(rows: Sequence[Row]) -> str:
    """The numbers, a line of each kind."""
    heads = "feature error", f"below {100 * REACHED:g} %", "pixel error", "class kept"
    lines = [f"{'':20}" + "".join(f"{head:>15}" for head in heads)]
    for row in rows:
        each = row.numbers()
        shares = f"{100 * each['feature_error']:13.2f} %{100 * each['reached']:13.1f} %"
        kept = f"{'-':>15}" if row.kept is None else f"{100 * row.kept:13.1f} %"
        lines.append(f"{row.name:20}{shares}{each['pixel_error']:15.4f}{kept}")
    return "\n".join(lines)


def draw(rows: Sequence[Row], label: np.ndarray, class_names: Sequence[str]) -> Figure:
    """A line for one image of each class, a panel for each kind with its numbers above.

    Beside each image of step I stand its own feature and pixel error.
    """
    shown = by_class(label, len(np.unique(label)))
    panels = [tiles.sheet(row.image[:, shown].swapaxes(0, 1)) for row in rows]
    height, widths = panels[0].shape[0], [each.shape[1] for each in panels]
    inches = 0.55 * len(shown)
    # Where a panel is one image wide, the words above it need more.
    ratios = [max(width, 1.9 * widths[0]) for width in widths]
    size = 1.2 + inches * sum(ratios) / height, 0.8 + inches
    figure = Figure(size, 150, layout="constrained")
    every = figure.subplots(1, len(rows), squeeze=False, width_ratios=ratios)[0]
    errors = zip(rows[1].features[0, shown], rows[1].pixels[0, shown], strict=True)
    texts = [f"{100 * features:.1f} %\n{pixels:.3f}" for features, pixels in errors]
    beside = [([class_names[i] for i in label[shown]], 7), (texts, 5)]
    for i, (axes, row, panel) in enumerate(zip(every, rows, panels, strict=True)):
        tiles.show(axes, panel, *(beside[i] if i < 2 else ()))
        axes.set_title(_title(row), fontsize=6)
    return figure


def _title(row: Row) -> str:
    each = row.numbers()
    kept = "" if row.kept is None else f"\nclass kept {100 * row.kept:.0f} %"
    if row.name == "original":
        return f"{row.name}\n\n{kept}"
    feature, pixel = 100 * each["feature_error"], each["pixel_error"]
    return f"{row.name}\nfeatures {feature:.1f} %\npixels {pixel:.3f}{kept}"
