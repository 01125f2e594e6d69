"""The toy figure: its data, the boundary's turns, fairness of the schemes, the command.

Covers `boundary_plot.py` too.
"""

import re

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import regjax as rj
from experiments.data import circles
from experiments.gallery import boundary_plot, decision_boundary
from experiments.gallery.boundary_plot import GRID
from experiments.training.steps import check

RADIUS = np.hypot(GRID[..., 0], GRID[..., 1])
ANGLE = np.arctan2(GRID[..., 1], GRID[..., 0])


def test_the_best_boundary_is_that_of_the_distances_distributions():
    radius, share = circles.best()
    outer, inner = (stats.rice(c / circles.NOISE, scale=circles.NOISE) for c in circles.RADII)
    right = [(outer.sf(r) + inner.cdf(r)) / 2 for r in (radius - 0.01, radius, radius + 0.01)]
    assert share == pytest.approx(right[1], abs=1e-6)
    assert right[1] > max(right[0], right[2])


def test_the_points_are_drawn_from_their_circles():
    points, label = circles.draw(4000, 0, 7)
    assert stats.binomtest(int(label.sum()), 4000).pvalue > 1e-3
    for number, c in enumerate(circles.RADII):
        own = points[label == number]
        rice = stats.rice(c / circles.NOISE, scale=circles.NOISE)
        assert stats.kstest(np.hypot(*own.T), rice.cdf).pvalue > 1e-3
        assert np.abs(own.mean(0)).max() < 4 / np.sqrt(len(own))
    np.testing.assert_array_equal(points, circles.draw(4000, 0, 7)[0])
    assert not np.allclose(points, circles.draw(4000, 1, 7)[0])


def total_curvature(bump):
    """Of the curve `r = 1 + bump cos(5 angle)`, in turns, on a fine polygon in the plane."""
    angle = np.linspace(0, 2 * np.pi, 200_001)
    r = 1 + bump * np.cos(5 * angle)
    heading = np.unwrap(np.angle(np.diff(r * np.exp(1j * angle))))
    return np.abs(np.diff(heading)).sum() / (2 * np.pi)


@pytest.mark.parametrize("bump", [0.0, 0.02, 0.1, 0.3])
def test_turns_are_the_total_curvature(bump):
    found = boundary_plot.turns(RADIUS - 1 - bump * np.cos(5 * ANGLE))
    assert found == pytest.approx(total_curvature(bump), rel=0.05)


def test_turns_of_several_pieces_of_open_ones_and_of_none():
    two = np.hypot(np.abs(GRID[..., 0]) - 1, GRID[..., 1]) - 0.5
    assert boundary_plot.turns(two) == pytest.approx(2, rel=0.01)
    assert boundary_plot.turns(GRID @ [1.0, 0.3] - 0.2) == pytest.approx(0, abs=1e-3)
    assert boundary_plot.turns(np.ones(RADIUS.shape)) == 0
    # Through grid points, where a piece of the line has no length.
    assert boundary_plot.turns(np.round(RADIUS * 8) - 6) < 20


def test_every_scheme_can_be_trained_and_has_a_strength_that_was_tried():
    assert len({scheme.name for scheme in decision_boundary.SCHEMES}) == 8
    for scheme in decision_boundary.SCHEMES:
        assert scheme.strength in scheme.candidates
        rate = scheme.strength if scheme.drops else 0.0
        task = decision_boundary.task(rate)
        check(task, task.example, rj.parse(scheme.loss(scheme.strength)), 4)


@pytest.fixture
def small(monkeypatch):
    """Two schemes, few steps and points."""
    monkeypatch.setattr(decision_boundary, "STEPS", 60)
    monkeypatch.setattr(decision_boundary, "SCORED", 1000)
    chosen = [s for s in decision_boundary.SCHEMES if s.name in ("weight decay", "dropout")]
    monkeypatch.setattr(decision_boundary, "SCHEMES", tuple(chosen))


def test_the_command(small, tmp_path, capsys):
    output = tmp_path / "figure.png"
    decision_boundary.main(str(output), 3)
    said = capsys.readouterr().out
    assert f"Written to {output}" in said
    lines = dict(re.findall(r"^(.{16})  +([\d.]+) ±", said, re.MULTILINE))
    assert [name.strip() for name in lines] == ["dropout", "weight decay"]
    assert all(80 < float(accuracy) < 92 for accuracy in lines.values())
    with Image.open(output) as image:
        assert image.size[0] == 1800


def test_a_network_does_not_depend_on_those_beside_it(small):
    scheme, points = decision_boundary.SCHEMES[1], GRID.reshape(-1, 2)
    beside = decision_boundary.margins(scheme, 0.01, points, (5, 6))
    alone = decision_boundary.margins(scheme, 0.01, points, (6,))
    np.testing.assert_allclose(beside[1], alone[0], rtol=1e-2, atol=1e-3)
    assert np.abs(beside[0] - alone[0]).max() > 0.1


def test_all_strengths_are_tried_on_other_points(small, monkeypatch):
    asked = []

    def margins(scheme, strength, points, seeds, use):
        asked.append((scheme.name, strength, use, tuple(seeds)))
        return np.where(circles.draw(1000, decision_boundary.VALIDATION)[1], 1.0, -1.0)[None]

    monkeypatch.setattr(decision_boundary, "margins", margins)
    text = decision_boundary.tuning((8,))
    expected = [(s.name, c) for s in decision_boundary.SCHEMES for c in s.candidates]
    assert [(name, c) for name, c, _, _ in asked] == expected
    assert {use for _, _, use, _ in asked} == {decision_boundary.TUNING}
    assert text.count("100.00") == len(expected)
    assert text.count("chosen") == 2


@pytest.mark.parametrize(
    ("output", "seeds", "says"),
    [
        ("figure.png", 0, "--seeds=0: at least 1 network a scheme is needed."),
        ("missing/figure.png", 1, "there is no folder .*missing: make it or choose another"),
        ("figure.pdf", 1, "figure.pdf must end with .png"),
        ("folder.png", 1, "folder.png is a folder: name a file in it"),
    ],
)
def test_wrong_options_are_one_sentence(output, seeds, says, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SystemExit, match="2"):
        decision_boundary.main(str(tmp_path / output), seeds)
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert said.count("\n") == 1
