"""Features in the plane: the neighbours' score in closed form, the map, what is refused."""

import numpy as np
import pytest

from experiments import ConfigError
from experiments.gallery import feature_map


def blobs(count, apart):
    rng = np.random.default_rng(0)
    label = np.arange(3 * count) % 3
    return rng.normal(size=(3 * count, 5)) + apart * np.eye(3, 5)[label], label


def test_the_neighbours_of_classes_far_apart_are_of_the_class():
    points, label = blobs(12, 100.0)
    assert feature_map.neighbour_score(points, label) == 1.0


def test_no_point_is_its_own_neighbour():
    """Eleven of class 0 and one of class 1 on a line, whose neighbours are all of class 0."""
    points, label = np.arange(12.0)[:, None], np.array([0] * 11 + [1])
    assert feature_map.neighbour_score(points, label) == pytest.approx(11 / 12)


def test_the_map_keeps_classes_apart_and_is_drawn_the_same_again():
    points, label = blobs(12, 50.0)
    first, second = (feature_map.mapped(points, label) for _ in range(2))
    assert first.plane.shape == (36, 2)
    assert first.in_features == first.in_plane == 1.0
    assert first.divergence > 0
    np.testing.assert_array_equal(first.plane, second.plane)
    figure = feature_map.draw({"a": first, "b": second}, label)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]


def test_no_folder_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        feature_map.maps(str(tmp_path), 100)
