"""Distances of predictions against NumPy in float64, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
from support import assert_close, assert_finite

from regjax.consistency import divergence, prediction_entropy, squared_distance

Z, OTHER = np.random.default_rng(0).normal(size=(2, 5, 3))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_logits_that_are_not_numbers_are_not_hidden() -> None:
    broken, z = jnp.full((1, 3), jnp.nan), jnp.zeros((1, 3))
    for value in (divergence(broken, z), divergence(z, broken), prediction_entropy(broken)):
        assert np.isnan(value).all()
    assert np.isnan(squared_distance(z, broken)).all()


def test_values_in_float64() -> None:
    p, q = softmax(Z), softmax(OTHER)
    with jax.enable_x64(True):
        z, other = jnp.asarray(Z), jnp.asarray(OTHER)
        found = squared_distance(z, other), divergence(z, other), prediction_entropy(z)
    expected = ((p - q) ** 2).mean(-1), (p * np.log(p / q)).sum(-1), -(p * np.log(p)).sum(-1)
    assert_close(found, expected, jnp.float64)


def test_the_gradient_of_the_squared_distance() -> None:
    """`(2 / C) p_j [(p - q)_j - sum_k p_k (p - q)_k]`, and that of the facts: 0.09375."""
    slopes = jax.grad(lambda *z: squared_distance(*z).sum(), argnums=(0, 1))
    with jax.enable_x64(True):
        z, other = jnp.log(jnp.array([[0.75, 0.25]])), jnp.zeros((1, 2))
        assert_close(squared_distance(z, other), np.array([0.0625]), jnp.float64)
        assert_close(slopes(z, other)[0], np.array([[0.09375, -0.09375]]), jnp.float64)
        p, q = softmax(Z), softmax(OTHER)
        d = p - q
        # Of the other one, with the roles swapped.
        expected = [
            2 / 3 * s * r * (d - (r * d).sum(-1, keepdims=True)) for s, r in ((1, p), (-1, q))
        ]
        assert_close(slopes(jnp.asarray(Z), jnp.asarray(OTHER)), tuple(expected), jnp.float64)


def test_directions_of_the_divergence_differ() -> None:
    z, other = jnp.asarray(Z), jnp.asarray(OTHER)
    assert jnp.max(jnp.abs(divergence(z, other) - divergence(other, z))) > 0.01
    assert jnp.all(divergence(z, z) == 0)


def test_certain_predictions_are_finite() -> None:
    z = jnp.array([[1e4, 0.0, -1e4], [0.0, -jnp.inf, 0.0]])
    both = lambda z: (divergence(z, z) + prediction_entropy(z) + squared_distance(z, z)).sum()  # noqa: E731
    assert_finite(jax.value_and_grad(both)(z))
    assert_close(prediction_entropy(z), np.array([0.0, np.log(2)]))


def test_dense_predictions_are_means_over_positions() -> None:
    z, other = jnp.asarray(Z[None]), jnp.asarray(OTHER[None])
    assert_close(divergence(z, other), divergence(z[0], other[0]).mean()[None])
    assert prediction_entropy(jnp.zeros((2, 4, 4, 3))).shape == (2,)
