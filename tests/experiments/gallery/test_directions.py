"""Directions of features: covariances against NumPy, their alternatives, draws."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from experiments.gallery import directions

RNG = np.random.default_rng(0)
C, A = 2, 3
FACTOR = RNG.normal(size=(C, A, A))
SIGMA = FACTOR @ FACTOR.swapaxes(1, 2)


@pytest.mark.slow
def test_covariances_are_estimated_class_by_class():
    features, label = RNG.normal(size=(40, A)) + 5, np.arange(40) % C
    found = directions.estimated(jnp.asarray(features, jnp.float32), jnp.asarray(label), C)
    expected = [np.cov(features[label == c].T, bias=True) for c in range(C)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_only_full_covariances_of_each_class_are_taken_from_a_state():
    for kind in ("full", "diagonal", "shared"):
        own = rj.statistics.init(C, A, covariance=kind)
        found = directions.kept(SimpleNamespace(stages={"isda": own}))
        assert (found is None) == (kind != "full")
    assert directions.kept(SimpleNamespace(stages={"isda": None})) is None
    assert directions.kept(SimpleNamespace(stages={})) is None


def test_alternatives_move_as_far_in_other_directions():
    own, random, other = map(np.asarray, directions.alternatives(jnp.asarray(SIGMA)).values())
    trace = np.trace(SIGMA, axis1=1, axis2=2)
    np.testing.assert_allclose(own, SIGMA, rtol=1e-6)
    np.testing.assert_allclose(random, trace[:, None, None] / A * np.eye(A), rtol=1e-6)
    for c in range(C):
        theirs = SIGMA[1 - c] * trace[c] / trace[1 - c]
        np.testing.assert_allclose(other[c], theirs, rtol=1e-5)


def test_draws_have_the_class_covariance_times_the_strength():
    """Each entry of the sampled covariance within 5 standard errors, by the fourth moments."""
    label, draws, strength = jnp.array([1, 0]), 20_000, 0.5
    moves = directions.draw(
        jax.random.key(0), jnp.asarray(SIGMA), label, strength=strength, draws=draws
    )
    assert moves.shape == (draws, 2, A)
    for i, c in enumerate((1, 0)):
        own, found = strength * SIGMA[c], np.asarray(moves[:, i], float)
        variance = np.diag(own)
        error = np.sqrt((np.outer(variance, variance) + own**2) / draws)
        assert (np.abs(found.T @ found / draws - own) < 5 * error).all()
        assert (np.abs(found.mean(0)) < 5 * np.sqrt(variance / draws)).all()
