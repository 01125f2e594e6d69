"""Learning curves, gathered, averaged and drawn."""

import statistics

import numpy as np
import pytest
from tiny_folders import line, make, planned

from experiments.report import curves, plots
from experiments.report.scoring import Scoring
from experiments.runs import folder as run_folder


def cells_of(folder, lines):
    found = run_folder.read(folder)
    return curves.gather(lines, found.chosen, found.planned, Scoring())


def test_curves_are_means_over_the_seeds_at_the_chosen_strength(tmp_path):
    folder = make(tmp_path / "a")
    first, second = planned(folder, strength=1.0)
    (worse, _) = planned(folder, strength=0.1)
    lines = [
        line(first, 10, total=9.0, l2=0.5),
        line(first, 10, total=1.0, l2=0.5),  # repeated after a restart
        line(second, 10, total=2.0, l2=None),
        line(first, 20, total=4.0, l2=0.25, gradient_norm=1.0),
        line(worse, 10, total=100.0, l2=100.0),
        line(first, 10, "evaluation", test_accuracy=0.75, note="text"),
        line(first, 10, total=7.0) | {"method": "other"},
        line(first, 10, total=7.0) | {"seed": 5},
    ]
    found = cells_of(folder, lines)
    assert list(found) == ["test_accuracy", "total", "l2"]
    total = found["total"]["db", 5]
    np.testing.assert_allclose(total.epoch, [1.0, 2.0])
    np.testing.assert_allclose(total.mean, [1.5, 4.0])
    np.testing.assert_allclose(total.std, [statistics.stdev([1.0, 2.0]), 0.0])
    np.testing.assert_allclose(found["l2"]["db", 5].mean, [0.5, 0.25])


def test_before_any_run_has_finished_the_first_strength_stands(tmp_path):
    folder = make(tmp_path / "a", keep=lambda run: False)
    (low, _), (high, _) = planned(folder, strength=0.1), planned(folder, strength=1.0)
    found = cells_of(folder, [line(low, 10, total=1.0), line(high, 10, total=5.0)])
    np.testing.assert_allclose(found["total"]["db", 5].mean, [1.0])


def test_long_curves_are_thinned_to_their_means():
    epoch = np.arange(1, 3001) / 100
    runs = [np.stack([epoch, slope * epoch], 1) for slope in (1.0, 3.0)]
    runs[1] = runs[1][:1500]  # interrupted
    curve = curves.average(runs)
    assert len(curve.epoch) <= curves.POINTS
    slope = np.where(curve.epoch < 15, 2.0, 1.0)
    inside = abs(curve.epoch - 15) > 0.3
    np.testing.assert_allclose(curve.mean[inside], (slope * curve.epoch)[inside], rtol=1e-9)
    early, late = curve.epoch < 14.7, curve.epoch > 15.3
    np.testing.assert_allclose(curve.std[early], np.sqrt(2) * curve.epoch[early], rtol=1e-9)
    np.testing.assert_allclose(curve.std[late], 0.0)


def curve(*mean):
    return curves.Curve(np.arange(len(mean), dtype=float), np.array(mean), np.full(len(mean), 0.1))


def draw(quantity, cells):
    return curves.draw(quantity, cells, plots.styles(["db", "baseline"], []), Scoring())


def test_accuracies_are_drawn_in_percent_with_a_band():
    figure = draw("test_accuracy", {("db", 5): curve(0.5, 0.8), ("db", 10): curve(0.6, 0.9)})
    assert [axes.get_title() for axes in figure.axes] == [
        *("5 images per class", "10 images per class")
    ]
    (axes, _) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50.0, 80.0])
    assert axes.collections[0].get_paths()[0].get_extents().ymax == pytest.approx(90.0)
    assert figure.get_supylabel() == "test accuracy (%)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["db"]


def test_values_over_decades_have_log_scales_in_every_panel():
    cells = {("db", 5): curve(1.0, 0.5), ("db", 10): curve(1.0, 0.01)}
    assert {axes.get_yscale() for axes in draw("total", cells).axes} == {"log"}
    cells["db", 10] = curve(1.0, -0.01)
    assert {axes.get_yscale() for axes in draw("total", cells).axes} == {"linear"}


def test_a_curve_without_a_finite_value_is_drawn(tmp_path):
    folder = make(tmp_path / "a")
    (first, _) = planned(folder, strength=1.0)
    found = cells_of(folder, [line(first, 10, total=None)])
    assert draw("total", found["total"]).axes


def test_a_curve_of_one_point_is_seen():
    cells = {("m", 5): curves.Curve(np.array([2.0]), np.array([0.5]), np.array([0.0]))}
    look = plots.styles(["m"], [])
    (line,) = curves.draw("test_accuracy", cells, look, Scoring()).axes[0].lines
    assert line.get_markevery() is None
    assert line.get_marker() not in ("", "None")


def test_the_scores_that_are_shown_are_drawn_and_no_others(tmp_path):
    folder = make(tmp_path / "a")
    (first, _) = planned(folder, strength=1.0)
    scores = {"test_miou": 0.5, "test_nll": 1.0, "test_accuracy": 0.9, "validation_miou": 0.4}
    lines = [line(first, 10, "evaluation", **scores), line(first, 10, total=1.0)]
    found, show = run_folder.read(folder), Scoring("miou", ("nll", "miou"), "validation")
    drawn = curves.gather(lines, found.chosen, found.planned, show)
    assert list(drawn) == ["validation_miou", "test_miou", "test_nll", "total"]
    assert [curves.title(quantity, show) for quantity in drawn] == [
        "held-out mean intersection over union",
        "validation mean intersection over union",
        "validation negative log-likelihood",
        "training loss",
    ]
    assert [curves.scale(quantity) for quantity in drawn] == [100, 100, 1, 1]
