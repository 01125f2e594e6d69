"""Intervals and tests of differences: what they cover in simulated runs, and closed forms."""

import functools

import numpy as np
import pytest
from scipy import stats

from experiments.report.intervals import MANY, holm, interval, is_many, p_value

COUNT, GAIN = 2000, 0.7


def simulated(n, m, seed, spread=2.0):
    """Scores of runs: what a seed brings, and what a method adds to it."""
    generator = np.random.default_rng(seed)
    seeds = generator.normal(80.0, 3.0, (COUNT, max(n, m)))
    theirs = seeds[:, :m] + generator.normal(0.0, 0.5, (COUNT, m))
    ours = seeds[:, :n] + generator.normal(GAIN, spread, (COUNT, n))
    return ours, theirs


def two_samples(n, m, seed):
    """Scores of runs that share nothing, one method's of another spread."""
    generator = np.random.default_rng(seed)
    ours = generator.normal(80.0 + GAIN, 3.0, (COUNT, n))
    return ours, generator.normal(80.0, 2.0, (COUNT, m))


def coverage(ends):
    low, high = ends
    return np.mean((low < GAIN) & (high > GAIN))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_paired_interval_covers_the_true_difference_in_95_percent(n):
    assert coverage(interval(*simulated(n, n, seed=n), paired=True)) == pytest.approx(
        0.95, abs=0.02
    )


@pytest.mark.parametrize(("n", "m"), [(5, 5), (5, 8), (10, 4)])
def test_the_unpaired_interval_covers_it_likewise(n, m):
    samples = two_samples(n, m, seed=n + m)
    assert coverage(interval(*samples, paired=False)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_the_bootstrap_covers_it_likewise(paired, monkeypatch):
    fewer = functools.partial(stats.bootstrap, n_resamples=1999)
    monkeypatch.setattr(stats, "bootstrap", fewer)
    ours, theirs = (simulated if paired else two_samples)(MANY, MANY, seed=1)
    assert is_many(ours, theirs)
    assert coverage(interval(ours, theirs, paired)) == pytest.approx(0.95, abs=0.02)


def test_what_seeds_share_does_not_widen_the_paired_interval():
    ours, theirs = simulated(5, 5, seed=1, spread=0.5)
    widths = [np.mean(np.subtract(*interval(ours, theirs, paired)[::-1])) for paired in (1, 0)]
    assert widths[0] < widths[1] / 3


def test_closed_forms_of_the_t_intervals():
    x, y = np.array([1.0, 2.0, 4.0, 3.0]), np.array([0.5, 2.5, 2.0, 1.0])
    d = x - y
    half = 3.182446305284263 * d.std(ddof=1) / 2  # the 97.5 % quantile of 3 degrees of freedom
    np.testing.assert_allclose(interval(x, y, True), (d.mean() - half, d.mean() + half))
    a, b = x.var(ddof=1) / 4, y.var(ddof=1) / 4
    freedom = (a + b) ** 2 / (a**2 / 3 + b**2 / 3)  # Welch and Satterthwaite
    half = stats.t.ppf(0.975, freedom) * np.sqrt(a + b)
    np.testing.assert_allclose(interval(x, y, False), (d.mean() - half, d.mean() + half))


@pytest.mark.parametrize("paired", [True, False])
def test_a_p_value_is_below_5_percent_where_the_interval_leaves_0_out(paired):
    ours, theirs = simulated(5, 5, seed=2)
    low, high = interval(ours, theirs, paired)
    outside = (low > 0) | (high < 0)
    assert 0 < outside.mean() < 1
    np.testing.assert_array_equal(p_value(ours, theirs, paired) < 0.05, outside)


@pytest.mark.parametrize("paired", [True, False])
def test_the_bootstrap_is_close_to_students_t_and_the_same_again(paired):
    x, y = np.random.default_rng(0).normal(size=(2, MANY)) + np.array([[GAIN], [0.0]])
    test = stats.ttest_rel(x, y) if paired else stats.ttest_ind(x, y, equal_var=False)
    t = test.confidence_interval()
    found = interval(x, y, paired)
    assert found == interval(x, y, paired) != (t.low, t.high)
    np.testing.assert_allclose(found, (t.low, t.high), atol=0.1 * (t.high - t.low))


def test_a_value_fewer_is_students_t():
    x, y = np.random.default_rng(0).normal(size=(2, MANY))
    assert not is_many(x[1:], y)
    t = stats.ttest_rel(x[1:], y[1:]).confidence_interval()
    assert interval(x[1:], y[1:], True) == (t.low, t.high)


def test_holms_correction_by_hand():
    # Sorted 0.01, 0.013, 0.02, 0.5, times 4, 3, 2, 1; 0.039 and 0.04 stay below none before them.
    assert holm([0.02, 0.01, 0.5, 0.013]) == pytest.approx([0.04, 0.04, 0.5, 0.04])
    assert holm([0.03, 0.01]) == pytest.approx([0.03, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert (holm([0.2]), holm([])) == ([0.2], [])
