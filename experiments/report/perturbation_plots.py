"""The figures of what perturbations leave of the accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.perturbed import Perturbation
from experiments.report import plots
from experiments.report.perturbation_scores import Robustness, corruption_means
from experiments.runs.selection import Row


def figures(
    found: Robustness, chosen: Sequence[Row], methods: Sequence[str], scored: str = "test"
) -> Iterator[tuple[int, dict[str, Figure]]]:
    """Yields every training size at which networks were tested with its figures by name.

    Args:
      found: what was tested.
      chosen: the row of each method and training size.
      methods: the methods' names, in the order of the legends.
      scored: the split that was tested.
    """
    for size in sorted({size for size, _, _ in found.tested}):
        drawn, mine = {}, [row for row in chosen if row.train_size == size]
        names = {name for at, _, name in found.tested if at == size}
        if names & set(found.leveled()):
            drawn["robustness"] = curves(found, mine, methods, scored)
        if names & set(found.named(corruptions=True)):
            drawn["corruptions"] = corruptions(found, mine, methods, scored)
        yield size, drawn


def curves(
    found: Robustness, chosen: Sequence[Row], methods: Sequence[str], scored: str = "test"
) -> Figure:
    """Draws accuracy against the level, a panel for each perturbation that is no corruption.

    A line is a mean and its band the standard deviation; it begins with the clean images, at 0.
    Hollow markers are published numbers.

    Args:
      found: what was tested, at one training size.
      chosen: the row of each method at that size.
      methods: the methods' names, in the order of the legend.
      scored: the split that was tested.
    """
    panels = found.leveled()
    columns = min(len(panels), 3)
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(1.6 + 3.4 * columns, 0.6 + 3.0 * lines), layout="constrained")
    look = plots.styles(methods, chosen)
    for i, (name, perturbation) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        for row in chosen:
            _curve(axes, found, row, name, perturbation, look[row.method])
        axes.set(title=plots.label(name), xlabel=perturbation.level)
        axes.grid(alpha=0.3)
    figure.supylabel(f"{scored} accuracy (%)", fontsize="medium")
    plots.legend(figure)
    return figure


def _curve(
    axes: Axes,
    found: Robustness,
    row: Row,
    name: str,
    perturbation: Perturbation,
    style: plots.Style,
) -> None:
    tested = found.tested.get((row.train_size, row.method, name))
    if tested is None:
        return
    mean, std = np.array(tested.mean), np.array(tested.std or [0.0] * len(tested.mean))
    levels, order = np.array(perturbation.levels), np.argsort(perturbation.levels)
    levels, mean, std = levels[order], mean[order], std[order]
    # What was tested on some of the images only has no clean accuracy to begin with.
    clean, spread = row.scores.get("accuracy", (None, None))
    if clean is not None and levels[0] > 0 and not perturbation.examples:
        levels, mean = np.insert(levels, 0, 0.0), np.insert(mean, 0, clean)
        std = np.insert(std, 0, spread or 0.0)
    axes.plot(levels, mean, **style, label=plots.label(row.method))
    axes.fill_between(levels, mean - std, mean + std, color=style["color"], alpha=0.08, linewidth=0)
    paper = found.published.get((row.train_size, row.method, name))
    if paper:
        hollow = style | {"linestyle": "none", "markerfacecolor": "white", "alpha": 0.7}
        axes.plot(perturbation.levels, np.array(paper, float), **hollow)


def corruptions(
    found: Robustness, chosen: Sequence[Row], methods: Sequence[str], scored: str = "test"
) -> Figure:
    """Draws the accuracy under each corruption, the mean over its severities; arguments as above.

    A line for each corruption and one for their mean, a marker for each method.
    """
    means = corruption_means(found, methods, chosen[0].train_size)
    figure = Figure(figsize=(7.5, 1.2 + 0.28 * len(means)), layout="constrained")
    axes, look = figure.add_subplot(), plots.styles(methods, chosen, linestyle="none")
    places = range(len(means) - 1, -1, -1)
    for i, method in enumerate(methods):
        values = np.array([row[i] for row in means.values()], float)
        axes.plot(values, list(places), **look[method], label=plots.label(method))
    axes.set_yticks(list(places), [plots.label(name) for name in means])
    axes.axhline(0.5, color="black", linewidth=0.8)
    axes.set_xlabel(f"{scored} accuracy (%), mean over severities")
    axes.grid(axis="both", alpha=0.3)
    plots.legend(figure)
    return figure
