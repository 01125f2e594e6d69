"""Snow, fog and frost by what they add, and the plasma fractal against the algorithm in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import SEVERITIES
from scipy import integrate, stats

from regjax.corruptions import severities, weather

COUNT = 64


def keys(seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), COUNT)


def shade(value: float | tuple[float, ...]) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(value, jnp.float32), (32, 32, 3))


snow = jax.jit(jax.vmap(weather.snow, (None, None, 0)))
fog = jax.jit(jax.vmap(weather.fog, (None, None, 0)))
frost = jax.jit(jax.vmap(weather.frost, (None, None, 0)))


SNOW = (  # mean, deviation, size and least value of the flakes, smear, colour kept
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_is_whitening_and_flakes(severity: int) -> None:
    mean, deviation, size, least, _, _, kept = SNOW[severity - 1]
    assert (
        severities.SNOW["cifar"][severity - 1] == SNOW[severity - 1]
    )  # means do not show sizes and smears
    colour = np.array([0.2, 0.5, 0.3])
    grey = 0.299 * 0.2 + 0.587 * 0.5 + 0.114 * 0.3
    whitened = kept * colour + (1 - kept) * np.maximum(colour, 1.5 * grey + 0.5)
    snowed = np.asarray(snow(shade(tuple(colour)), severity, keys(severity)), np.float64)
    flakes = snowed - whitened
    np.testing.assert_allclose(flakes, flakes[..., :1].repeat(3, -1), atol=1e-6)
    flakes = flakes[..., 0]
    np.testing.assert_allclose(flakes, flakes[:, ::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(flakes * 255, np.rint(flakes * 255), atol=1e-3)
    if size != 1:  # what is enlarged has another distribution
        return
    # Each of the two is a weighted mean of independent draws, truncated to 255ths.
    normal = stats.norm(mean, deviation)
    one = integrate.quad(lambda x: x * normal.pdf(x), least, 1)[0] + normal.sf(1)
    one -= 0.5 / 255 * normal.sf(least)
    each = flakes.mean((1, 2))
    assert abs(each.mean() - 2 * one) < 4 * each.std() / np.sqrt(COUNT)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_is_a_cloud_scaled_back_to_the_brightest(severity: int) -> None:
    thickness = (0.2, 0.5, 0.75, 1, 1.5)[severity - 1]

    def cloud(image: jax.Array) -> np.ndarray:
        brightest = float(image.max())
        fogged = np.asarray(fog(image, severity, keys(1)), np.float64)
        return (fogged * (brightest + thickness) / brightest - np.asarray(image)) / thickness

    clouds = cloud(shade(0.7))
    assert -1e-5 < clouds.min() < 1e-5
    assert 1 - 1e-5 < clouds.max() < 1 + 1e-5
    np.testing.assert_allclose(clouds, clouds[..., :1].repeat(3, -1), atol=1e-5)
    np.testing.assert_allclose(clouds, cloud(shade((0.2, 1.0, 0.0))), atol=1e-5)


def by_loops(size: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """The diamond-square algorithm on a torus, point by point."""
    land, step, noise = np.zeros((size, size)), size, 1.0

    def set_to_mean(y: int, x: int, around: list[tuple[int, int]]) -> None:
        total = sum(land[(y + i) % size, (x + j) % size] for i, j in around)
        land[y, x] = total / 4 + noise * rng.uniform(-1, 1)

    while step > 1:
        half = step // 2
        for y in range(half, size, step):
            for x in range(half, size, step):
                set_to_mean(y, x, [(-half, -half), (-half, half), (half, -half), (half, half)])
        for y in range(0, size, half):
            for x in range(half * ((y // half + 1) % 2), size, step):
                set_to_mean(y, x, [(-half, 0), (half, 0), (0, -half), (0, half)])
        step, noise = half, noise / decay**2
    land -= land.min()
    return land / land.max()


def test_the_noise_in_the_fog_falls_with_its_decay() -> None:
    """What a centre of four corners is off their mean, on the finest grid and on the next."""

    def noise(cloud: np.ndarray) -> np.ndarray:
        pairs = cloud[:, ::2, ::2] + np.roll(cloud[:, ::2, ::2], -1, 1)
        return cloud[:, 1::2, 1::2] - (pairs + np.roll(pairs, -1, 2)) / 4

    for severity, decay in zip(SEVERITIES, (3, 3, 2.5, 2, 1.75), strict=True):
        clouds = np.asarray(fog(shade((0, 1, 0)), severity, keys(3)), np.float64)[..., 0]
        ratio = noise(clouds[:, ::2, ::2]).std() / noise(clouds).std()
        assert ratio == pytest.approx(decay**2, rel=0.05)


@pytest.mark.parametrize("decay", [3.0, 1.75])
def test_plasma_is_diamond_square(decay: float) -> None:
    """Level, spread and roughness of many clouds, within four standard errors."""
    rng, count = np.random.default_rng(0), 200
    theirs = np.stack([by_loops(8, decay, rng) for _ in range(count)])
    many = jax.jit(jax.vmap(lambda key: weather.plasma(key, 8, jnp.float32(decay))))
    ours = np.asarray(many(jax.random.split(jax.random.key(0), count)), np.float64)
    for measure in (
        lambda x: x.mean((1, 2)),
        lambda x: x.std((1, 2)),
        lambda x: np.abs(np.diff(x, axis=1)).mean((1, 2)),
        lambda x: np.abs(np.diff(x, axis=2)).mean((1, 2)),
        lambda x: np.abs(x[:, 0, 0] - x[:, 4, 4]),
        lambda x: np.abs(x - np.roll(x, 1, 1)).mean((1, 2)),
    ):
        a, b = measure(ours), measure(theirs)
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt((a.var() + b.var()) / count)


def test_frost_lays_ice_over_the_image() -> None:
    ice = np.asarray(frost(shade(0), 1, keys(2)), np.float64) / 0.2
    assert ice.min() >= 0
    assert ice.max() <= 1 + 1e-6
    assert 0.3 < ice.mean() < 0.7
    assert (ice.mean((1, 2, 3)).std() < 0.1) & (ice.std((1, 2, 3)) > 0.08).all()
    assert ice[..., 2].mean() > ice[..., 1].mean() > ice[..., 0].mean()  # bluish
    for severity, (kept, added) in zip(
        SEVERITIES, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)), strict=True
    ):
        result = frost(shade(0.4), severity, keys(2))
        np.testing.assert_allclose(result, kept * 0.4 + added * ice, atol=1e-6)


def test_ice_is_as_much_larger_as_images_are() -> None:
    """Neighbours differ less by the levels for large images, where photographs are not shrunk."""
    drawn = [
        np.asarray(weather.frost(shade(0), jnp.array(1), jax.random.key(0), levels))
        for levels in ("cifar", "tiny_imagenet", "imagenet")
    ]
    rough = [np.abs(np.diff(each, axis=0)).mean() / each.mean() for each in drawn]
    assert rough[0] > rough[1] > 2 * rough[2]
