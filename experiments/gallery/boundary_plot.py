"""Decision boundaries in the plane: how often one turns, and a panel a scheme."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Two of Okabe and Ito's colours, told apart with the common kinds of colour blindness.
CLASSES = ("#0072B2", "#D55E00")
MARKERS = ("o", "s")
SHADES = LinearSegmentedColormap.from_list("classes", ["#6fb4dc", "#ffffff", "#f0a873"])

EXTENT = 1.9
AXIS = np.linspace(-EXTENT, EXTENT, 100, dtype=np.float32)
GRID = np.stack(np.meshgrid(AXIS, AXIS), axis=-1)  # [100, 100, 2], rows of one height


class Panel(NamedTuple):
    """A scheme's networks, R of them.

    Attributes:
      name: the name of the scheme.
      accuracy: the accuracy in percent, `[R]`.
      turns: the turns of the boundaries, `[R]`.
      margin: the margin of class 1 over class 0 on the grid, logits, `[R, 100, 100]`.
    """

    name: str
    accuracy: np.ndarray
    turns: np.ndarray
    margin: np.ndarray


def turns(margin: np.ndarray) -> float:
    """The total curvature of the boundary, in full turns: `sum |angle| / 2 pi` over its vertices.

    A convex closed curve has 1, and no closed curve less; every dent and every island adds to it.
    An end at the edge of the grid does not count.

    Args:
      margin: on the grid, `[100, 100]`.
    """
    return sum(map(_turned, _boundary(margin))) / (2 * np.pi)


def _boundary(margin: np.ndarray) -> list[np.ndarray]:
    """The pieces of the line where the margin is 0, each `[vertices, 2]`."""
    if not margin.min() < 0 < margin.max():
        return []
    return Figure().add_subplot().contour(AXIS, AXIS, margin, levels=[0.0]).allsegs[0]


def _turned(line: np.ndarray) -> float:
    """The angles between the edges of a line, summed, in radians."""
    edges = np.diff(line, axis=0)
    # Where the line touches a grid point, an edge has no length and hence no direction.
    edges = edges[np.hypot(*edges.T) > 1e-4 * (AXIS[1] - AXIS[0])]
    if np.array_equal(line[0], line[-1]):
        edges = np.concatenate([edges, edges[:1]])
    direction = np.arctan2(*edges.T[::-1])
    return float(np.sum(np.abs((np.diff(direction) + np.pi) % (2 * np.pi) - np.pi)))


def text(values: np.ndarray, digits: int = 1) -> str:
    """Mean and, of more than one value, its standard error."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def draw(panels: Sequence[Panel], points: np.ndarray, label: np.ndarray, best: float) -> Figure:
    """Draws the first network of each panel, four in a line, and says so below.

    Args:
      panels: one or more.
      points: on which those were trained, `[N, 2]`.
      label: their classes, `[N]`.
      best: the radius of the best boundary.
    """
    lines = -(-len(panels) // 4)
    figure = Figure(figsize=(12, 0.6 + 3.35 * lines), layout="constrained")
    axes = figure.subplots(lines, 4, squeeze=False).flat
    for panel, own in zip(panels, axes, strict=False):
        _panel(own, panel, points, label, best)
    for own in list(axes)[len(panels) :]:
        own.remove()
    figure.supxlabel(_caption(len(panels[0].accuracy)), fontsize=9, linespacing=1.5)
    return figure


def _panel(axes: Axes, panel: Panel, points: np.ndarray, label: np.ndarray, best: float) -> None:
    # tanh(m / 2) / 2 + 1 / 2 is the probability, without the overflow of an exponential.
    probability = 0.5 + 0.5 * np.tanh(panel.margin[0] / 2)
    axes.contourf(AXIS, AXIS, probability, levels=np.linspace(0, 1, 21), cmap=SHADES)
    for line in _boundary(panel.margin[0]):
        axes.plot(*line.T, color="black", linewidth=1.8)
    angle = np.linspace(0, 2 * np.pi, 100)
    axes.plot(best * np.cos(angle), best * np.sin(angle), "--", color="black", linewidth=0.9)
    for number, (colour, marker) in enumerate(zip(CLASSES, MARKERS, strict=True)):
        own = points[label == number]
        axes.scatter(
            own[:, 0], own[:, 1], s=16, c=colour, marker=marker, edgecolors="white", linewidths=0.4
        )
    axes.set_title(f"{panel.name} ({text(panel.accuracy)} %)", fontsize=11)
    axes.set_xlabel(f"{text(panel.turns, 2)} turns", fontsize=9)
    axes.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), xticks=[], yticks=[], aspect="equal")


def _caption(networks: int) -> str:
    over = f"mean ± standard error of {networks} networks" if networks > 1 else "of one network"
    return (
        f"In parentheses: test accuracy; below: how often the boundary turns ({over}). A circle "
        "turns once.\nShown: the network of seed 0 and its training points; shading is its "
        "probability, the solid line its boundary, the dashed circle the best possible boundary."
    )
