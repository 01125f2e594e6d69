"""The figures of a comparison on runs made up by hand, and what all figures share.

Covers `plots.py` too.
"""

import math

import numpy as np
import pytest
from tiny_compared import ENVIRONMENT, comparison, make_config, runs

from experiments.report import files, main_plots, plots
from experiments.report.published import published
from experiments.report.scoring import Scoring
from experiments.runs.selection import select, summarize


def size_figure(config, records):
    chosen = select(records, config.selection)
    return main_plots.accuracy_by_size(chosen, list(config.losses), published(config), Scoring())


def strength_figure(config, records):
    chosen = select(records, config.selection)
    return main_plots.accuracy_by_strength(
        summarize(records), chosen, list(config.losses), Scoring()
    )


def bars_of(axes):
    """{label: (x, y)} of the error bars."""
    return {
        c.get_label(): c.lines[0].get_data() for c in axes.containers if len(c.lines[0].get_xdata())
    }


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_accuracy_against_size():
    figure = size_figure(make_config(), comparison())
    (accuracy,) = figure.axes
    assert accuracy.get_xscale() == "log"
    assert accuracy.get_xlabel() == "training images per class"
    assert accuracy.get_ylabel() == "test accuracy (%)"
    np.testing.assert_allclose(bars_of(accuracy)["db"][1], [93.5, 93.5])
    assert legend_of(figure) == ["db", "baseline", "published"]


def test_shifted_points_stay_near_their_size_and_apart():
    (axes,) = size_figure(make_config(), comparison()).axes
    x = np.concatenate([container.lines[0].get_xdata() for container in axes.containers])
    x = x.astype(float)  # The legend's empty entry makes them objects.
    first = x[x < 75]
    assert first.size == 4  # Two methods, ours and the paper's.
    assert len(set(first)) == first.size
    assert np.abs(np.log(first / 50)).max() < 0.1


def test_the_papers_numbers_are_hollow():
    (accuracy,) = size_figure(make_config(), comparison()).axes
    hollow = [c.lines[0] for c in accuracy.containers if c.lines[0].get_mfc() == "white"]
    assert {round(float(y), 3) for line in hollow for y in line.get_ydata()} == {92.273, 90.195}


def test_accuracy_against_strength():
    figure = strength_figure(make_config(), comparison())
    assert [axes.get_title() for axes in figure.axes] == [
        "50 images per class",
        "100 images per class",
    ]
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(lines["db"].get_xdata(), [0.1, 1.0])
    np.testing.assert_allclose(lines["db"].get_ydata(), [90.5, 93.5])
    assert lines["db"].get_markevery() == [False, True]
    assert set(lines["baseline"].get_ydata()) == {89.5}
    assert legend_of(figure) == ["db", "baseline"]


def test_a_collapsed_strength_does_not_squeeze_the_panel():
    records = comparison() + runs([0.1, 0.1], strength=3.0, validation=0.1)
    low, high = strength_figure(make_config(), records).axes[0].get_ylim()
    assert low > 80
    assert 94.2 < high < 96


@pytest.mark.parametrize("method", ["db", "baseline"])
@pytest.mark.parametrize("size", [50, 100])
def test_a_panel_whose_runs_all_diverged_is_still_drawn(method, size, tmp_path):
    records = comparison()
    for record in records:
        if (record["method"], record["train_size"]) == (method, size):
            record["train_loss"] = None
    assert "accuracy_by_size" in files.write(tmp_path, records, make_config(), ENVIRONMENT)


def test_nothing_but_diverged_runs_is_still_drawn(tmp_path):
    records = [record | {"train_loss": math.nan} for record in comparison()]
    assert "accuracy_by_size" in files.write(tmp_path, records, make_config(), ENVIRONMENT)


def test_names_are_no_formulas_and_all_stand_in_the_legend():
    names = ["$x_1$", "$\\frac", "_hidden", "a_b^c", "日本"]
    records = [r for name in names for r in runs([0.9], method=name, strength=None)]
    chosen = select(records, "test")
    for figure in (
        main_plots.accuracy_by_size(chosen, names, {}, Scoring()),
        main_plots.accuracy_by_strength(chosen, chosen, names, Scoring()),
    ):
        assert plots.render(figure, "png").startswith(b"\x89PNG")
        svg = plots.render(figure, "svg").decode()
        assert all(f">{name}<" in svg for name in names if name != "_hidden")
        assert "> _hidden<" in svg


def test_the_legend_of_strengths_has_the_methods_of_its_runs():
    """Runs that only choose strengths are of few of the comparison's methods."""
    rows = [row for row in summarize(comparison()) if row.method == "db"]
    given = (rows, rows[:1], list(make_config().losses), Scoring())
    figure = main_plots.accuracy_by_strength(*given)
    assert legend_of(figure) == ["db"]


def test_labels_are_short_and_printable():
    assert plots.label("a\nb\x00\ud800") == "a\ufffdb\ufffd\ufffd"
    assert plots.label("x" * 31 + "-tail") == "x" * 17 + "…" + "x" * 7 + "-tail"
    assert plots.label("x" * 30) == "x" * 30


def test_no_two_of_many_methods_look_the_same():
    names = [f"m{i}" for i in range(40)]
    look = plots.styles(names, [])
    assert len({(style["color"], style["marker"]) for style in look.values()}) == 40


def test_of_several_methods_without_a_strength_the_baseline_is_black():
    records = [r for name in "ab" for r in runs([0.9], method=name, strength=None)]
    look = plots.styles(["a", "b", "db"], summarize(records))
    assert look["a"]["color"] == "black" != look["b"]["color"]
    records[0]["loss"] = "cross_entropy | cutout | flip"
    assert plots.styles(["a", "b"], summarize(records))["b"]["color"] == "black"
    assert [style["linestyle"] for style in look.values()] == ["--", "--", "-"]


@pytest.mark.parametrize("sizes", [(50,), (50, 100), (5, 10, 20), (50, 100, 200, 1000)])
def test_one_panel_per_size(sizes):
    records = [r for size in sizes for r in runs([0.9, 0.8], size=size)]
    assert len(strength_figure(make_config(), records).axes) == len(sizes)


def test_where_less_is_better_a_panel_ends_above():
    records = [r | {"test_nll": 0.2 + 0.1 * r["seed"]} for r in comparison()]
    records += [r | {"test_nll": 90.0} for r in runs([0.1, 0.1], strength=3.0)]
    show, methods = Scoring("nll", ("nll",)), ["db", "baseline"]
    rows, chosen = summarize(records, "nll"), select(records, "test", "nll")
    figure = main_plots.accuracy_by_strength(rows, chosen, methods, show)
    low, high = figure.axes[0].get_ylim()
    assert (low < 0.2, high < 1) == (True, True)
    assert figure.get_supylabel() == "test negative log-likelihood (nats)"
