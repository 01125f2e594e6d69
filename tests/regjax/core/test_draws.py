"""The cheap draws: their distributions to the last of their 16 bits, and their independence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import regjax as rj
from regjax.core import draws

KEY = jax.random.key(0)
GRID = (2 * np.arange(65536) - 65535) / 65536


def a_million(draw: str) -> np.ndarray:
    drawn = getattr(draws, draw)(jax.random.split(KEY, 100), (100, 100))
    assert drawn.shape == (100, 100, 100)
    assert drawn.dtype == jnp.float32
    return np.asarray(drawn, np.float64)


@pytest.fixture(scope="module")
def every_value() -> tuple[np.ndarray, np.ndarray]:
    """All values that can be drawn, uniform and normal, in order, each equally likely."""
    with pytest.MonkeyPatch.context() as patch:
        words = (jnp.arange(32768, dtype=jnp.uint32) << 16) + jnp.arange(32768, 65536)
        patch.setattr(jax.random, "bits", lambda *_: words.astype(jnp.uint32))
        keys = jax.random.split(KEY, 1)
        values = [np.asarray(f(keys, (65536,))[0], float) for f in (draws.uniform, draws.normal)]
    return np.sort(values[0]), np.sort(values[1])


def test_uniform_draws_are_all_odd_multiples(every_value: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(every_value[0], GRID)


def test_normal_draws_are_the_normal_quantiles(every_value: tuple[np.ndarray, np.ndarray]) -> None:
    values = every_value[1]
    exact = special.ndtri((1 + GRID) / 2)
    np.testing.assert_allclose(values, exact, atol=1.1e-4)
    assert values.max() < 4.33
    probability = special.ndtr(values)
    steps = np.arange(65537) / 65536
    assert np.abs(probability - steps[:-1]).max() < 5e-5
    assert np.abs(probability - steps[1:]).max() < 5e-5
    np.testing.assert_allclose(np.mean(values), 0, atol=1e-6)
    np.testing.assert_allclose(np.mean(values**2), 1, rtol=3e-5)
    np.testing.assert_allclose(np.mean(values**4), 3, rtol=4e-4)


def test_a_million_draws_pass_kolmogorov_and_smirnov() -> None:
    uniform, normal = a_million("uniform").ravel(), a_million("normal").ravel()
    assert stats.kstest(uniform, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert abs(uniform.mean()) < 4 / np.sqrt(3e6)
    assert abs(normal.mean()) < 4e-3
    assert abs(normal.var() - 1) < 4 * np.sqrt(2e-6)
    assert abs(stats.kurtosis(normal)) < 4 * np.sqrt(24e-6)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_neighbours_examples_and_halves_of_words_are_independent(draw: str, power: int) -> None:
    """Of the values and of their squares; the two halves of a word lie half an example apart."""
    drawn = a_million(draw).reshape(100, 10000) ** power
    pairs = {
        "neighbours": (drawn[:, 1:], drawn[:, :-1]),
        "examples": (drawn[1:], drawn[:-1]),
        "halves of a word": (drawn[:, :5000], drawn[:, 5000:]),
        "words of a call": (drawn[:, :2500], drawn[:, 2500:5000]),
    }
    for name, (a, b) in pairs.items():
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(a.size), name


@pytest.mark.parametrize("shape", [(), (1,), (2, 5), (0,)])
def test_any_shape_and_each_example_by_its_key(shape: tuple[int, ...]) -> None:
    keys = jax.random.split(KEY, 4)
    for draw in (draws.uniform, draws.normal):
        drawn = draw(keys, shape)
        assert drawn.shape == (4, *shape)
        np.testing.assert_array_equal(draw(keys[2:3], shape)[0], drawn[2])
        assert len(np.unique(drawn)) == drawn.size


def test_the_draws_are_the_same_in_every_mode() -> None:
    """Compiled or not, with 64 bits enabled, whichever layout the generator is set to."""
    keys = jax.random.split(KEY, 3)
    expected = draws.normal(keys, (7,))
    compiled = jax.jit(lambda keys: draws.normal(keys, (7,)))(keys)
    np.testing.assert_allclose(compiled, expected, rtol=1e-5)
    with jax.enable_x64(True):
        np.testing.assert_allclose(draws.normal(keys, (7,)), expected, rtol=1e-5)
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(draws.normal(keys, (7,)), expected)


def perturbed(h: jax.Array, add: float, multiply: float) -> np.ndarray:
    batch = rj.Batch(h, jnp.ones((len(h), 1)))
    return np.asarray(draws.perturb(h, KEY, batch, add=add, multiply=multiply), np.float64)


def test_perturbations_add_a_normal_and_multiply_by_a_uniform() -> None:
    h = jnp.full((50, 2000), 3.0)
    added, factor = perturbed(h, 0.5, 0.0) - 3, perturbed(h, 0.0, 0.25) / 3
    assert stats.kstest(added.ravel() / 0.5, "norm").pvalue > 1e-3
    assert stats.kstest((factor.ravel() - 1) / 0.25, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(added.ravel(), factor.ravel())[0, 1]) < 4 / np.sqrt(h.size)
    np.testing.assert_allclose(perturbed(h, 0.5, 0.25), 3 * factor + added, atol=2e-6)
    np.testing.assert_array_equal(perturbed(h, 0.0, 0.0), h)
