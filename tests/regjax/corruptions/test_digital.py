"""Pixelate against Pillow; the elastic transform by what it does to coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import HEIGHT, SEVERITIES, WIDTH, compiled, keys, pictures, pixels
from PIL import Image
from scipy import ndimage
from support import assert_same

from regjax.corruptions.digital import elastic_transform


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_is_pillows(severity: int) -> None:
    kept = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    small, box = (int(WIDTH * kept), int(HEIGHT * kept)), Image.Resampling.BOX
    expected = [
        np.asarray(Image.fromarray(image).resize(small, box).resize((WIDTH, HEIGHT), box))
        for image in pictures()
    ]
    result = np.asarray(compiled("pixelate")(pixels(), severity, keys()))
    assert_same(np.rint(result * 255).astype(np.uint8), np.stack(expected))


SIZE = 64
# Of each severity: how far corners move, scale and sigma of the displacements.
TABLE = ((2.56, 0, 0), (2.24, 1.6, 6.4), (1.92, 2.56, 1.92), (1.6, 3.2, 1.28), (0.96, 3.2, 0.96))

bend = jax.jit(jax.vmap(elastic_transform, (None, None, 0)))


def came_from(severity: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels came from, `[count, P, 2]`, and where they are, `[P, 3]` with a 1 behind.

    Away from the border, where the picture's own row and column show it.
    """
    place = np.indices((SIZE, SIZE)).astype(np.float32)
    picture = jnp.asarray(np.stack([*place, np.zeros_like(place[0])], -1))
    result = bend(picture, severity, jax.random.split(jax.random.key(severity), count))
    inner = (slice(16, -16),) * 2
    source = np.asarray(result, np.float64)[:, *inner, :2].reshape(count, -1, 2)
    at = np.stack([*place[:, *inner].reshape(2, -1), np.ones(32 * 32)], -1)
    return source, at


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_moves_three_corners_and_bends(severity: int) -> None:
    shift, scale, sigma = TABLE[severity - 1]
    source, at = came_from(severity, count=40)
    fitted = [np.linalg.lstsq(at, each, rcond=None)[0] for each in source]  # [3, 2] each
    rest = np.stack([each - at @ fit for each, fit in zip(source, fitted, strict=True)])
    corners = np.array([[53, 53], [11, 53], [11, 11]])
    moved = np.stack([(corners - fit[2]) @ np.linalg.inv(fit[:2]) - corners for fit in fitted])
    # A displacement over the whole inner part passes for a shift: smooth ones blur the fit.
    slack = 1e-2 if not scale else 0.1 * shift + 0.6
    assert np.abs(moved).max() < shift + slack
    assert moved.std() == pytest.approx(shift / np.sqrt(3), rel=0.2 if scale else 0.15)
    if not scale:
        np.testing.assert_allclose(rest, 0, atol=1e-3)
        return
    impulse = np.zeros((SIZE, SIZE))
    impulse[32, 32] = 1
    weight = ndimage.gaussian_filter(impulse, sigma, truncate=3)
    expected = scale * np.sqrt((weight**2).sum() / 3)
    # The fit takes a part of the smoothest displacements away.
    assert 0.55 < rest.std() / expected < 1.1
    if sigma < 2:
        assert rest.std() == pytest.approx(expected, rel=0.1)
