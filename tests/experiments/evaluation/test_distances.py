"""What is measured of generated images, on distributions whose answer is known."""

import doctest

import numpy as np
import pytest

from experiments.evaluation import distances


def _gaussian(seed: int, count: int, mean: float = 0.0, std: float = 1.0, size: int = 1):
    return np.random.default_rng(seed).normal(mean, std, (count, size))


def test_examples_of_the_docstrings() -> None:
    found = doctest.testmod(distances)
    assert found.attempted >= 5
    assert not found.failed


def _closed_form_mmd(m: float, s: float, n: float, t: float) -> float:
    """(xy + 1)^3 = x^3 y^3 + 3 x^2 y^2 + 3 x y + 1: of every power the difference of moments."""
    cubes = (m**3 + 3 * m * s**2) - (n**3 + 3 * n * t**2)
    squares = (m**2 + s**2) - (n**2 + t**2)
    return cubes**2 + 3 * squares**2 + 3 * (m - n) ** 2


def test_the_kernel_distance_of_two_gaussians_is_the_closed_form() -> None:
    of = (0.3, 0.5, -0.2, 0.7)
    x, y = _gaussian(0, 20_000, *of[:2]), _gaussian(1, 20_000, *of[2:])
    found = distances.kernel_distance(x, y, subsets=60, size=300)
    error = found.deviation / np.sqrt(60)
    assert abs(found.value - _closed_form_mmd(*of)) < 3 * error
    assert error < 0.05 * found.value


def test_the_kernel_distance_is_unbiased_and_scales_by_the_features() -> None:
    x, y = _gaussian(0, 20_000, size=3), _gaussian(1, 20_000, size=3)
    found = distances.kernel_distance(x, y, subsets=60, size=100)
    assert abs(found.value) < 3 * found.deviation / np.sqrt(60)
    a, b = _gaussian(2, 4, size=3), _gaussian(3, 4, 0.5, size=3)

    def mean(x: np.ndarray, y: np.ndarray, same: bool) -> float:
        pairs = [(i, j) for i in range(4) for j in range(4) if not (same and i == j)]
        return np.mean([(np.dot(x[i], y[j]) / 3 + 1) ** 3 for i, j in pairs])

    by_hand = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    np.testing.assert_allclose(distances.kernel_distance(a, b, subsets=1).value, by_hand)


def test_the_frechet_distance_is_the_closed_form() -> None:
    # Of commuting covariances it is |m - n|^2 + sum (s - t)^2 over their axes.
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    whole = _gaussian(1, 500, size=3)
    whole = np.linalg.solve(np.linalg.cholesky(np.cov(whole, rowvar=False)), whole.T).T
    whole -= whole.mean(0)  # exactly N(0, I) in its moments
    s, t, shift = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.2, 0.5]), np.array([1.0, 0.0, -2.0])
    found = distances.frechet_distance((whole * s) @ turn, (whole * t) @ turn + shift)
    np.testing.assert_allclose(found, 5 + np.sum((s - t) ** 2), rtol=1e-9)
    np.testing.assert_allclose(distances.frechet_distance(whole, whole), 0, atol=1e-9)


def test_nearest_neighbours_of_equal_distributions_tell_nothing() -> None:
    x, y = _gaussian(0, 1000, size=2), _gaussian(1, 1000, size=2)
    found = distances.nearest_neighbour_accuracy(x, y)
    # Neighbours come in pairs, so that the standard error is a little above 1 / (2 sqrt(N)).
    assert max(abs(found.real - 0.5), abs(found.fake - 0.5)) < 4 * 0.5 / np.sqrt(1000)


def test_nearest_neighbours_see_copies_and_what_is_never_generated() -> None:
    x = _gaussian(0, 300, size=2)
    copies = distances.nearest_neighbour_accuracy(x, x + 1e-6)
    assert copies == (0.0, 0.0)
    # Half of the real ones are of a mode that is never generated.
    y = _gaussian(1, 300, size=2)
    x[:150] += 50
    dropped = distances.nearest_neighbour_accuracy(x, y)
    # Where both are, two of three are generated, and all real ones elsewhere stand by themselves.
    np.testing.assert_allclose(dropped, ((1 + 1 / 3) / 2, 2 / 3), atol=0.07)
    assert distances.nearest_neighbour_accuracy(x[:150], y[:150]) == (1.0, 1.0)


def test_the_two_sample_test_knows_equal_and_other_distributions() -> None:
    x, y = _gaussian(0, 1000, size=2), _gaussian(1, 1000, size=2)
    same = distances.two_sample_test(x, y)
    assert same.deviation == pytest.approx(0.5 / np.sqrt(1000))
    assert abs(same.value - 0.5) < 3 * same.deviation
    # Two unit normals whose means are 2 apart are told by 84.13 %, the normal's integral to 1.
    other = distances.two_sample_test(x, y + np.array([2.0, 0.0]))
    assert abs(other.value - 0.8413) < 3 * np.sqrt(0.8413 * 0.1587 / 1000)


def test_nearest_stored_rows_are_found_in_order() -> None:
    stored = np.arange(12.0).reshape(6, 2, 1)
    place, distance = distances.nearest(stored[[4]] + 0.1, stored, 3)
    assert place.tolist() == [[4, 5, 3]]
    np.testing.assert_allclose(distance[0], np.array([0.1, 1.9, 2.1]) * np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(
    "measure",
    [distances.kernel_distance, distances.frechet_distance, distances.two_sample_test],
)
def test_features_that_do_not_fit_are_named(measure) -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\), \(3, 4\)"):
        measure(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="at least two"):
        measure(np.zeros((1, 2)), np.zeros((3, 2)))


def test_as_many_of_both_are_asked_for() -> None:
    with pytest.raises(ValueError, match="as many of both"):
        distances.nearest_neighbour_accuracy(np.zeros((3, 2)), np.zeros((4, 2)))
