"""Spatter: what the drops do to the image, and their shading against OpenCV's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import LIQUID, compiled, from_hex, keys, pixels
from scipy import ndimage, stats
from support import assert_same

from regjax.corruptions import liquid

# What OpenCV 5.0 makes of LIQUID: equalizeHist of the blurred distance, filter2D, blur.
LIGHT = """
    00000055aafff4e9944a000b27444444 00000055aafff4e9944a000b27444444
    00000055aafff8f0a65916212c210b00 00000055aafffbf8ca956b7670491600
    0000004499eeffffeed1c0cba965331c 4f4f444f81cbf9fffffff8f0bf8e7971
    8881764965aff9fff8edd7c8afa9bfc6 8881763e5aa4f9fbe9c2937382b0dff4
    3933331655aafff8c985452d3f668e9f 0b0b000055aafff4b05b11000b2c455b
    1616000055aafff49f4a00001c414c55 2121000055aafff49f4a00001c4a5566
"""

shading = jax.jit(liquid.shading)


def on_shade(value: float, severity: int) -> np.ndarray:
    image = jnp.full(pixels().shape, value, jnp.float32)
    return np.asarray(compiled("spatter")(image, severity, keys()), np.float64)


def test_shading_is_opencvs() -> None:
    expected = from_hex(LIQUID).astype(float) * from_hex(LIGHT)
    result = shading(jnp.asarray(from_hex(LIQUID), jnp.float32))
    np.testing.assert_allclose(result, expected / expected.max(), atol=1e-6)


def test_without_drops_there_is_no_shade() -> None:
    assert_same(shading(jnp.zeros((12, 16))), np.zeros((12, 16), np.float32))


def test_as_much_is_wet_as_the_noise_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where smoothed noise is large, with neither shades nor the smoothing of the mud."""
    monkeypatch.setattr(liquid, "shading", lambda height: (height > 0).astype(jnp.float32))
    monkeypatch.setattr(liquid, "_smoothing", lambda length, sigma: jnp.eye(length))
    spatter = jax.jit(jax.vmap(liquid.spatter, (None, None, 0)))
    table = (
        (0.62, 0.1, 0.7, 0.7),
        (0.65, 0.1, 0.8, 0.7),
        (0.65, 0.3, 1.0, 0.69),
        (0.65, 0.1, 0.7, 0.69),
        (0.65, 0.1, 0.5, 0.68),
    )
    impulse = np.zeros((21, 21))
    impulse[10, 10] = 1
    for severity, (mean, deviation, sigma, least) in enumerate(table, 1):
        spread = deviation * np.linalg.norm(ndimage.gaussian_filter(impulse, sigma))
        chance = stats.norm(mean, spread).sf(least)
        many = jax.random.split(jax.random.key(severity), 64)
        wet = (np.asarray(spatter(jnp.zeros((64, 64, 3)), severity, many)) > 0)[:, 5:-5, 5:-5, 1]
        share = wet.mean((1, 2))
        assert abs(share.mean() - chance) < 4 * share.std() / 8
        assert share.std() / 8 < 0.03 * chance


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water_is_added(severity: int) -> None:
    water = on_shade(0, severity)
    np.testing.assert_allclose(on_shade(0.25, severity) - 0.25, water, atol=1e-6)
    np.testing.assert_allclose(water * 238, water[..., 1:2] * [175, 238, 238], atol=1e-4)
    np.testing.assert_allclose(water[..., 1].max((1, 2)), 0.5 * 238 / 255, atol=1e-6)
    covered = (water > 0).any(-1).mean()
    assert 0.005 < covered < 0.6


@pytest.mark.parametrize("severity", [4, 5])
def test_mud_covers(severity: int) -> None:
    mud = on_shade(0, severity)
    cover = mud[..., 0] / (63 / 255)
    assert ((cover == 0) | ((cover > 0.8 - 1e-5) & (cover < 1 + 1e-5))).all()
    assert 0.005 < (cover > 0).mean() < 0.3
    np.testing.assert_allclose(mud * 63, mud[..., :1] * [63, 42, 20], atol=1e-4)
    left = 1 - cover[..., None]
    np.testing.assert_allclose(on_shade(1, severity), left + mud, atol=1e-6)


def test_the_waters_height_starts_again_beyond_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    heights: list[np.ndarray] = []

    def keep(height: jax.Array) -> jax.Array:
        heights.append(np.asarray(height))
        return height

    monkeypatch.setattr(liquid, "resample", lambda image, *_: jnp.full_like(image, 257.5 / 255))
    monkeypatch.setattr(liquid, "shading", keep)
    with jax.disable_jit():
        liquid.spatter(jnp.zeros((4, 4, 3)), jnp.array(3), jax.random.key(0))
    assert_same(heights[0], np.full((4, 4), 1, np.float32))
