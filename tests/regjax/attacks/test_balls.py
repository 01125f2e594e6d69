"""Projections are the nearest points and starts are uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from regjax.attacks.balls import L2, LInf, unit

SHAPE = (3, 2, 1)


def images(size: int, *, saturated: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(size, *SHAPE))
    return np.where(rng.uniform(size=image.shape) < saturated, np.round(image), image)


def nearest(image: np.ndarray, point: np.ndarray, epsilon: float) -> np.ndarray:
    """By a general solver, in float64."""
    image, point = image.ravel(), point.ravel()
    inside = {"type": "ineq", "fun": lambda x: epsilon**2 - np.sum((x - image) ** 2)}
    result = optimize.minimize(
        lambda x: np.sum((x - point) ** 2),
        image,
        jac=lambda x: 2 * (x - point),
        bounds=[(0, 1)] * image.size,
        constraints=inside,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert result.success
    return result.x.reshape(SHAPE)


@pytest.mark.parametrize("length", [0.05, 0.4, 3.0])
def test_the_l2_projection_is_the_nearest_point_of_ball_and_box(length: float) -> None:
    image, epsilon = images(8, saturated=0.4), 0.5
    point = image + length * np.random.default_rng(1).normal(size=image.shape)
    ball = L2(jnp.asarray(image, jnp.float32), jnp.float32(epsilon), 0.0, 1.0)
    got = ball.project(jnp.asarray(point, jnp.float32))
    expected = np.stack([nearest(i, p, epsilon) for i, p in zip(image, point, strict=True)])
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("ball", [LInf, L2])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_what_is_projected_is_in_ball_and_box(ball: type, scale: float) -> None:
    image = jnp.asarray(images(64, saturated=0.8), jnp.float32)
    heavy = np.random.default_rng(2).standard_cauchy(size=image.shape)
    point = image + jnp.asarray(scale * heavy, jnp.float32)
    for epsilon in (0.0, 1e-3, 0.3, 10.0):
        projected = ball(image, jnp.float32(epsilon), 0.0, 1.0).project(point)
        order = 2 if ball is L2 else np.inf
        move = np.asarray(projected - image, np.float64).reshape(64, -1)
        assert np.linalg.norm(move, order, axis=1).max() <= epsilon + 2e-7
        assert jnp.all((projected >= 0) & (projected <= 1))


@pytest.mark.parametrize("ball", [LInf, L2])
def test_a_ball_without_end_is_the_box(ball: type) -> None:
    image = jnp.asarray(images(8, saturated=0.4), jnp.float32)
    point = image + jnp.asarray(np.random.default_rng(1).normal(size=image.shape), jnp.float32)
    projected = ball(image, jnp.float32(jnp.inf), 0.0, 1.0).project(point)
    np.testing.assert_allclose(projected, np.clip(point, 0, 1), atol=1e-6)


@pytest.mark.parametrize("ball", [LInf, L2])
def test_starts_are_uniform_in_the_ball(ball: type) -> None:
    count, epsilon = 4000, 0.3
    image = jnp.full((count, *SHAPE), 0.5)
    keys = jax.random.split(jax.random.key(3), count)
    start = ball(image, jnp.float32(epsilon), -1.0, 2.0).start(keys)
    cut = ball(image, jnp.float32(epsilon), 0.4, 0.55).start(keys)
    np.testing.assert_allclose(cut, np.clip(start, 0.4, 0.55), atol=1e-6)
    move = np.asarray(start - image, np.float64).reshape(count, -1) / epsilon
    order = 2 if ball is L2 else np.inf
    size = move.shape[1]
    # The part of a ball's volume that is nearer to its middle is uniform, in any norm.
    nearer = np.linalg.norm(move, order, axis=1) ** size
    assert stats.kstest(nearer, "uniform").pvalue > 0.01
    variance = 1 / (size + 2) if ball is L2 else 1 / 3
    np.testing.assert_allclose(np.cov(move.T), variance * np.eye(size), atol=0.02)
    np.testing.assert_allclose(move.mean(0), 0, atol=4 * np.sqrt(variance / count))


def test_unit_vectors_of_tiny_and_of_no_vectors() -> None:
    a = jnp.asarray([[3e-36, -4e-36], [0, 0], [3e30, 4e30]], jnp.float32)
    np.testing.assert_allclose(unit(a), [[0.6, -0.8], [0, 0], [0.6, 0.8]], rtol=1e-6)
