"""The figure of the differences to the baseline: what is drawn where, filled and hollow."""

import numpy as np
import pytest
from tiny_compared import comparison, make_config, runs

from experiments.report import difference_plot, differences, plots
from experiments.report.scoring import Scoring
from experiments.runs.selection import select


def drawn(records, **changes):
    config = make_config(**changes)
    chosen, show = select(records, "validation"), Scoring()
    compared = differences.gather(config, chosen, records, show)
    return compared, difference_plot.draw(compared, chosen, config, show)


def vary(records):
    """Seeds whose differences are told from 0 with 50 images, and not told with 100."""
    for record in records:
        if record["method"] == "db":
            record["test_accuracy"] += record["seed"] * (
                0.001 if record["train_size"] == 50 else 0.1
            )
    return records


def test_a_panel_per_size_has_a_bar_per_method_and_the_published_difference():
    compared, figure = drawn(vary(comparison()))
    assert [a.get_title() for a in figure.axes] == ["50 images per class", "100 images per class"]
    for axes, size in zip(figure.axes, (50, 100), strict=True):
        found = compared.differences["db", size]
        (bar,) = axes.containers
        assert [float(x) for x in bar.lines[0].get_xdata()] == [found.mean]
        (ends,) = bar.lines[2][0].get_segments()
        np.testing.assert_allclose(np.asarray(ends, float)[:, 0], [found.low, found.high])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["db"]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == [""]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [float(x) for line in crosses for x in line.get_xdata()] == [pytest.approx(2.078)]
    assert not [line for line in figure.axes[1].lines if line.get_marker() == "x"]
    assert figure.get_supxlabel() == "test accuracy minus baseline's (percentage points)"


def test_what_is_told_from_0_is_filled():
    compared, figure = drawn(vary(comparison()))
    assert [each.is_told for each in compared.differences.values()] == [True, False]
    faces = [axes.containers[0].lines[0].get_markerfacecolor() for axes in figure.axes]
    assert faces[0] == plots.COLOURS[0]
    assert faces[1] == "white"


def test_one_seed_has_a_marker_and_no_bar():
    records = [record for record in comparison() if record["seed"] == 0]
    _, figure = drawn(records, published={})
    assert [len(axes.containers[0].lines[2]) for axes in figure.axes] == [0, 0]
    assert plots.render(figure, "png").startswith(b"\x89PNG")


def test_a_method_without_a_difference_leaves_its_line_empty():
    records = [r for r in comparison() if (r["method"], r["train_size"]) != ("db", 100)]
    records += runs([0.91, 0.92], method="a$b", strength=None, size=100)
    losses = {"db": "x | l2(weight={strength})", "a$b": "x | flip", "baseline": "x"}
    _, figure = drawn(records, losses=losses)
    first, second = figure.axes
    assert [float(axes.containers[0].lines[0].get_ydata()[0]) for axes in (first, second)] == [0, 1]
    assert [label.get_text() for label in first.get_yticklabels()] == ["db", r"a\$b"]
