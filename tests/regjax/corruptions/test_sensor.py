"""Noises by their moments and distributions, colours against Python's own HSV."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import SEVERITIES, corrupted, pictures
from scipy import stats

from regjax.corruptions import sensor

CLEAN = pictures() / 255.0  # float64


def test_gaussian_noise() -> None:
    image, sigmas = jnp.full((90, 90, 3), 0.5), (0.04, 0.06, 0.08, 0.09, 0.10)
    noisy = jax.jit(sensor.gaussian_noise)
    for severity, sigma in zip(SEVERITIES, sigmas, strict=True):
        noise = np.asarray(noisy(image, severity, jax.random.key(severity)) - image)
        assert stats.kstest(noise.ravel() / sigma, "norm").pvalue > 1e-3


def test_speckle_noise_grows_with_the_pixel() -> None:
    level = jnp.array([0.0, 0.25, 1.0])
    image = jnp.broadcast_to(level[:, None, None], (3, 3000, 3))
    noisy = jax.jit(sensor.speckle_noise)
    for severity, sigma in zip(SEVERITIES, (0.06, 0.10, 0.12, 0.16, 0.20), strict=True):
        noise = np.asarray(noisy(image, severity, jax.random.key(severity)) - image)
        assert (noise[0] == 0).all()
        for row, x in ((1, 0.25), (2, 1.0)):
            assert stats.kstest(noise[row].ravel() / (x * sigma), "norm").pvalue > 1e-3


def test_shot_noise_is_a_count() -> None:
    """Chi-square against the Poisson distribution, at a dark, a middling and a white pixel."""
    levels = np.array([0, 3, 102, 255])
    image = jnp.broadcast_to(jnp.asarray(levels)[:, None, None] / 255, (4, 4000, 3))
    noisy = jax.jit(sensor.shot_noise)
    for severity, photons in zip(SEVERITIES, (500, 250, 100, 75, 50), strict=True):
        counts = np.asarray(noisy(image, severity, jax.random.key(severity))) * photons
        np.testing.assert_allclose(counts, np.rint(counts), atol=1e-3)
        assert (counts[0] == 0).all()
        for level, drawn in zip(levels[1:], np.rint(counts[1:]).reshape(3, -1), strict=True):
            expected = stats.poisson(level / 255 * photons)
            mean, error = expected.mean(), expected.std() / np.sqrt(drawn.size)
            assert abs(drawn.mean() - mean) < 4 * error
            ends = np.unique(expected.ppf(np.linspace(0.05, 0.95, 10)))
            found = np.bincount(np.searchsorted(ends, drawn), minlength=len(ends) + 1)
            chances = np.diff(np.concatenate([[0], expected.cdf(ends), [1]]))
            assert stats.chisquare(found, chances * drawn.size).pvalue > 1e-4  # one of 15


def test_impulse_noise_takes_each_channel_for_itself() -> None:
    image = jnp.full((150, 150, 3), 0.5)
    noisy = jax.jit(sensor.impulse_noise)
    for severity, amount in zip(SEVERITIES, (0.01, 0.02, 0.03, 0.05, 0.07), strict=True):
        result = np.asarray(noisy(image, severity, jax.random.key(severity)))
        hit = result != 0.5
        error = np.sqrt(amount / hit.size)
        assert abs((result == 0).mean() - amount / 2) < 4 * error
        assert abs((result == 1).mean() - amount / 2) < 4 * error
        assert hit.all(-1).mean() < amount / 5  # whole pixels hardly ever


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_raises_the_value(severity: int) -> None:
    change = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    expected = in_hsv(lambda h, s, v: (h, s, min(v + change, 1)))
    np.testing.assert_allclose(corrupted("brightness", severity), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_changes_the_saturation(severity: int) -> None:
    factor, shift = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    expected = in_hsv(lambda h, s, v: (h, min(s * factor + shift, 1), v))
    np.testing.assert_allclose(corrupted("saturate", severity), expected, atol=2e-6)


def in_hsv(change) -> np.ndarray:
    flat = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in CLEAN.reshape(-1, 3)]
    return np.array(flat).reshape(CLEAN.shape)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_shrinks_deviations_from_the_mean(severity: int) -> None:
    result, factor = corrupted("contrast", severity), (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    np.testing.assert_allclose(result.mean((1, 2)), CLEAN.mean((1, 2)), atol=1e-6)
    deviations = (x - x.mean((1, 2), keepdims=True) for x in (result, CLEAN))
    np.testing.assert_allclose(next(deviations), factor * next(deviations), atol=3e-6)
