"""Figures about perturbed images, on scores made up by hand."""

import math
import statistics

import numpy as np
from tiny_tested import found_of, make_config, scored

from experiments.report import perturbation_plots


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines if line.get_linestyle() != "None"}


def test_a_curve_for_every_perturbation_begins_with_the_clean_images():
    found, chosen = found_of(make_config())
    figure = perturbation_plots.curves(found, chosen, ["NFM", "plain"])
    white, salt = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["white noise", "a|b"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["sigma", "amount"]
    nfm = lines_of(white)["NFM"]
    np.testing.assert_allclose(nfm.get_xdata(), [0, 0.1, 0.3])
    np.testing.assert_allclose(nfm.get_ydata(), [93, 82, 55])
    band = white.collections[0].get_paths()[0].vertices
    clean, first = (statistics.stdev(pair) for pair in ((92, 94), (80, 84)))
    np.testing.assert_allclose(max(y for x, y in band if x == 0), 93 + clean)
    np.testing.assert_allclose(min(y for x, y in band if x == 0.1), 82 - first)
    # Of some of the images the clean accuracy is not known.
    np.testing.assert_allclose(lines_of(salt)["NFM"].get_xdata(), [0.04])
    (hollow,) = [line for line in white.lines if line.get_mfc() == "white"]
    np.testing.assert_allclose(hollow.get_xdata(), [0.1, 0.3])
    np.testing.assert_allclose(np.array(hollow.get_ydata(), float), [83.0, math.nan])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["NFM", "plain"]


def test_levels_are_drawn_in_order_and_0_is_not_drawn_twice():
    text = "white_noise(sigma=(0.3, 0.0))"
    records = [scored("NFM", s, text, (50.0, 90.0)) for s in (0, 1)]
    found, chosen = found_of(make_config({"x": text}), records)
    (axes,) = perturbation_plots.curves(found, chosen, ["NFM", "plain"]).axes
    assert list(lines_of(axes)) == ["NFM"]
    np.testing.assert_allclose(lines_of(axes)["NFM"].get_xdata(), [0, 0.3])
    np.testing.assert_allclose(lines_of(axes)["NFM"].get_ydata(), [90, 50])


def test_a_marker_for_every_corruption_and_method():
    found, chosen = found_of(make_config())
    figure = perturbation_plots.corruptions(found, chosen, ["NFM", "plain"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fog", "snow", "mean"]
    points = {line.get_label(): line.get_xydata() for line in axes.lines[:2]}
    np.testing.assert_allclose(points["NFM"], [[65, 2], [40, 1], [52.5, 0]])
    np.testing.assert_allclose(points["plain"], [[55, 2], [60, 1], [57.5, 0]])
    assert axes.lines[0].get_linestyle() == "None"
