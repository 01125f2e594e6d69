"""Learning curves: what metrics.jsonl holds, averaged over the seeds and drawn.

A line of metrics.jsonl is an object with "kind" ("train" or "evaluation"), "step", "epoch", a run's
"method", "train_size", "strength" and "seed", and numbers by name, null where one is not finite:
"total", "learning_rate" and a number for each term of the loss, or scores "test_..." and
"validation_...".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report import plots
from experiments.report.scoring import Scoring
from experiments.runs.plan import Run
from experiments.runs.selection import Row
from experiments.runs.shown import shown

IDENTITY = ("kind", "step", "epoch", "method", "train_size", "strength", "seed")
SPLITS = ("validation_", "test_")
# The scores come first, then the loss, its terms, and the rate.
LOSS, RATE = "total", "learning_rate"
SKIPPED = ("gradient_norm", "images_per_second")
# A thousand logged points look the same, and make the page slow.
POINTS = 150

Cell = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A quantity over the epochs: means and sample standard deviations over the runs, each `[N]`.

    Where only one run got, or one that stayed finite, the deviation is 0.
    """

    epoch: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def gather(
    lines: Iterable[Mapping[str, Any]],
    chosen: Iterable[Row],
    planned: Iterable[Run],
    scoring: Scoring,
) -> dict[str, dict[Cell, Curve]]:
    """Returns the curves of every quantity, by method and training size.

    Args:
      lines: the lines of metrics.jsonl, see above.
      chosen: the chosen row of each method and training size: other strengths are left out. Where
        no run has finished, the first strength that was recorded stands.
      planned: the config's runs; the lines of others are left out.
      scoring: which scores are drawn, the main one first.
    """
    scores = [s + name for name in (scoring.score, *scoring.others) for s in SPLITS]
    strengths = {(row.method, row.train_size): row.strength for row in chosen}
    known = {(run.method, run.train_size, run.strength, run.seed) for run in planned}
    runs: dict[tuple[str, Cell], dict[int, dict[int, tuple[float, float]]]] = {}
    for line in lines:
        cell = (line["method"], line["train_size"])
        if (*cell, line["strength"], line["seed"]) not in known:
            continue
        if strengths.setdefault(cell, line["strength"]) != line["strength"]:
            continue
        for name, value in line.items():
            if _is_drawn(name, value, scores):
                points = runs.setdefault((name, cell), {}).setdefault(line["seed"], {})
                points[line["step"]] = (line["epoch"], math.nan if value is None else value)
    curves: dict[str, dict[Cell, Curve]] = {}
    order = [*scores, LOSS]
    for name, cell in sorted(runs, key=lambda key: _place(key[0], order)):
        every = [np.array(list(points.values())) for points in runs[name, cell].values()]
        curves.setdefault(name, {})[cell] = average(every)
    # No images were held out where none has a score; a loss without a value has diverged.
    return {name: cells for name, cells in curves.items() if not _is_missing(name, cells)}


def average(runs: Sequence[np.ndarray]) -> Curve:
    """Averages runs over at most `POINTS` stretches of the epochs.

    Args:
      runs: of each run the epochs and the values, `[N, 2]`; values that are not finite are left
        out.
    """
    end = max(run[:, 0].max() for run in runs)
    count, epoch, value = np.zeros((3, len(runs), POINTS))
    for i, run in enumerate(runs):
        finite = run[np.isfinite(run[:, 1])]
        part = np.minimum(finite[:, 0] * (POINTS / end if end else 0.0), POINTS - 1).astype(int)
        np.add.at(count[i], part, 1.0)
        np.add.at(epoch[i], part, finite[:, 0])
        np.add.at(value[i], part, finite[:, 1])
    some = count.any(axis=0)
    count, epoch, value = count[:, some], epoch[:, some], value[:, some]
    value = np.divide(value, count, out=np.zeros_like(value), where=count > 0)
    n = (count > 0).sum(axis=0)
    mean = value.sum(axis=0) / n
    squares = (np.where(count > 0, value - mean, 0.0) ** 2).sum(axis=0)
    return Curve(epoch.sum(0) / count.sum(0), mean, np.sqrt(squares / np.maximum(n - 1, 1)))


def draw(
    quantity: str,
    curves: Mapping[Cell, Curve],
    look: Mapping[str, plots.Style],
    scoring: Scoring,
) -> Figure:
    """Draws a quantity against the epoch: a panel per training size, a line per method.

    Args:
      quantity: its name.
      curves: of each method and training size.
      look: how each method's line is drawn, see `plots.styles`.
      scoring: names the split that is scored.
    """
    figure, panels = plots.by_size(size for _, size in curves)
    for i, (method, style) in enumerate(look.items()):
        mine = {size: curve for (name, size), curve in curves.items() if name == method}
        for size, curve in mine.items():
            style = style | {"label": plots.label(method), "markersize": 3.5, "linewidth": 1.2}
            # Markers, few and not above each other, tell lines apart that have one colour.
            style["markevery"] = (i % 5 * 0.04, 0.2)
            _line(panels[size], curve, scale(quantity), style)
    for axes in panels.values():
        axes.grid(alpha=0.3)
    if scale(quantity) == 1:
        _zoom(list(panels.values()))
    figure.supxlabel("epoch", fontsize="medium")
    unit = " (%)" if scale(quantity) != 1 else ""
    figure.supylabel(plots.label(title(quantity, scoring)) + unit, fontsize="medium")
    plots.legend(figure)
    return figure


def title(quantity: str, scoring: Scoring) -> str:
    """Returns the quantity's name in words; a term of the loss keeps its own."""
    score = _score(quantity)
    if not score:
        return {LOSS: "training loss", RATE: "learning rate"}.get(quantity, quantity)
    # What is held out of the training images is called so where "validation" are other images.
    held_out = "validation" if scoring.scored == "test" else "held-out"
    return f"{scoring.scored if quantity.startswith('test_') else held_out} {shown(score).name}"


def scale(quantity: str) -> float:
    """Returns what the values are multiplied with to be shown, such as 100 for a percentage."""
    score = _score(quantity)
    return shown(score).scale if score else 1.0


def _score(quantity: str) -> str:
    """The name of a score without its split; "" of what is none."""
    split, _, name = quantity.partition("_")
    return name if f"{split}_" in SPLITS else ""


def _is_drawn(name: str, value: Any, scores: Sequence[str]) -> bool:
    known = not _score(name) or name in scores
    number = value is None or isinstance(value, int | float)
    return known and number and name not in IDENTITY + SKIPPED


def _is_missing(name: str, cells: Mapping[Cell, Curve]) -> bool:
    return bool(_score(name)) and not any(curve.mean.size for curve in cells.values())


def _line(axes: Axes, curve: Curve, scale: float, style: plots.Style) -> None:
    mean, std = scale * curve.mean, scale * curve.std
    if len(mean) == 1:  # a point, of which no line can be drawn
        style = style | {"markevery": None}
    axes.plot(curve.epoch, mean, **style)
    band = {"color": style["color"], "alpha": 0.1, "linewidth": 0}
    axes.fill_between(curve.epoch, mean - std, mean + std, **band)


def _zoom(panels: Sequence[Axes]) -> None:
    """Log scales where the means span decades, with limits that no band can stretch."""
    every = [_means(axes) for axes in panels]
    some = np.concatenate(every)
    if some.size and some.min() > 0 and some.max() > 30 * some.min():
        for axes, means in zip(panels, every, strict=True):
            axes.set_yscale("log")
            if means.size:
                axes.set_ylim(means.min() / 1.3, means.max() * 1.3)


def _means(axes: Axes) -> np.ndarray:
    return np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])


def _place(name: str, first: Sequence[str]) -> tuple[int, str]:
    if name in first:
        return (first.index(name), "")
    return (len(first) + (name == RATE), name)
