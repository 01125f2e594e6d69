"""Blurs against SciPy and against loops over pixels, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import SEVERITIES, corrupted, pictures
from scipy import ndimage, stats
from support import assert_same

from regjax.corruptions import blurs
from regjax.corruptions.severities import Levels

CLEAN = pictures() / 255.0  # float64


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipys(severity: int) -> None:
    sigma = (0.4, 0.6, 0.7, 0.8, 1)[severity - 1]
    expected = ndimage.gaussian_filter(CLEAN, (0, sigma, sigma, 0), mode="nearest")
    np.testing.assert_allclose(corrupted("gaussian_blur", severity), expected, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_is_a_smoothed_disk(severity: int) -> None:
    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    disk = np.array([[np.hypot(x, y) <= radius for x in range(-8, 9)] for y in range(-8, 9)])
    side = np.exp(-1 / (2 * sigma**2))
    bell = np.array([side, 1, side]) / (1 + 2 * side)
    kernel = ndimage.convolve(disk / disk.sum(), np.outer(bell, bell), mode="constant")
    expected = ndimage.convolve(CLEAN, kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(corrupted("defocus_blur", severity), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("levels", "severity", "radius", "around", "sigma"),
    [
        ("tiny_imagenet", 4, 2.5, 1, 0.01),
        ("imagenet", 2, 4, 1, 0.5),
        ("imagenet", 4, 8, 1, 0.5),
        ("imagenet", 5, 10, 2, 0.5),
    ],
)
def test_defocus_blur_of_larger_images(
    levels: Levels, severity: int, radius: float, around: int, sigma: float
) -> None:
    """What is smoothed is a picture of the disk, whose border mirrors it."""
    side = max(8, int(radius))
    place = np.arange(-side, side + 1)
    disk = (np.hypot(place[:, None], place) <= radius).astype(float)
    bell = np.exp(-(np.arange(-around, around + 1) ** 2) / (2 * sigma**2))
    bell /= bell.sum()
    kernel = ndimage.convolve(disk / disk.sum(), np.outer(bell, bell), mode="mirror")
    image = np.random.default_rng(0).uniform(size=(30, 26, 3))
    expected = ndimage.convolve(image, kernel[..., None], mode="mirror")
    pixels = jnp.asarray(image, jnp.float32)
    result = blurs.defocus_blur(pixels, jnp.array(severity), jax.random.key(0), levels)
    np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_is_the_mean_of_scipys_zooms(severity: int) -> None:
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    expected = zoom_blurred(CLEAN[1], factors)
    np.testing.assert_allclose(corrupted("zoom_blur", severity)[1], expected, atol=2e-6)


@pytest.mark.parametrize(
    ("levels", "severity", "factors"),
    [
        ("cifar", 5, np.arange(1, 1.26, 0.01)),  # the last, 1.2500000000000002, rounds up
        ("imagenet", 3, np.arange(1, 1.21, 0.02)),
        ("imagenet", 5, np.arange(1, 1.31, 0.03)),
    ],
)
def test_zoom_blur_has_the_rounding_errors_of_the_factors(
    levels: Levels, severity: int, factors: np.ndarray
) -> None:
    image = np.random.default_rng(0).uniform(size=(32, 32, 3))
    pixels = jnp.asarray(image, jnp.float32)
    result = blurs.zoom_blur(pixels, jnp.array(severity), jax.random.key(0), levels)
    np.testing.assert_allclose(result, zoom_blurred(image, factors), atol=2e-6)


def zoom_blurred(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The mean of the image, once more than the factors say, and SciPy's zooms."""

    def middle(length: int, inner: int) -> slice:
        return slice((length - inner) // 2, (length - inner) // 2 + inner)

    def zoomed(factor: float) -> np.ndarray:
        parts = [middle(n, int(np.ceil(n / factor))) for n in image.shape[:2]]
        large = ndimage.zoom(image[tuple(parts)], (factor, factor, 1), order=1)
        places = zip(large.shape, image.shape, strict=True)
        return large[tuple(middle(outer, n) for outer, n in places)]

    return (image + sum(map(zoomed, factors))) / (len(factors) + 1)


@pytest.mark.parametrize(("angle", "radius"), [(0.0, 3), (37.0, 4), (-45.0, 2), (-100.0, 4)])
def test_a_smear_is_half_a_gaussian_along_a_line(angle: float, radius: int) -> None:
    image, sigma, longest = CLEAN[0, :9, :8], 1.7, 4
    weight = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    expected = np.zeros_like(image)
    for i, w in enumerate(weight / weight.sum()):
        down, right = (int(np.ceil(i * f(np.deg2rad(angle)) - 0.5)) for f in (np.sin, np.cos))
        for y in range(9):
            for x in range(8):
                expected[y, x] += w * image[min(max(y + down, 0), 8), min(max(x + right, 0), 7)]
    result = smear(jnp.asarray(image, jnp.float32), float(radius), sigma, angle, longest=longest)
    np.testing.assert_allclose(result, expected, atol=1e-6)


smear = jax.jit(blurs.smeared, static_argnames="longest")


def test_motion_blur_keeps_the_mean_of_each_line_of_motion() -> None:
    """A picture without differences along the rows moves at most by 45 degrees, to the right."""
    columns = jnp.broadcast_to(jnp.linspace(0, 1, 40)[None, :, None], (12, 40, 3))
    motion = jax.jit(jax.vmap(blurs.motion_blur, (None, None, 0)))
    for severity, sigma in zip(SEVERITIES, (1, 1.5, 2, 2, 2.5), strict=True):
        weight = np.exp(-(np.arange(19) ** 2) / (2 * sigma**2))
        ahead = (weight * np.arange(19)).sum() / weight.sum() / 39
        moved = motion(columns, severity, jax.random.split(jax.random.key(0), 50))
        shift = np.asarray(moved - columns[None])[:, :, :10]
        assert (shift.max((1, 2, 3)) < ahead + 1 / 255).all()
        assert shift.max() > ahead - 1 / 255  # of 50 angles, some are about 0
        assert (shift.min((1, 2, 3)) > ahead * np.sqrt(0.5) - 1 / 39 - 1 / 255).all()
        assert np.ptp(shift.mean((1, 2, 3))) > 0.1 * ahead  # angles differ


def numbered(height: int, width: int) -> jax.Array:
    """A picture that shows where each pixel came from."""
    return jnp.arange(height * width, dtype=jnp.float32).reshape(height, width, 1)


def shaken(height: int, width: int, most: int) -> np.ndarray:
    """The number of the pixel that each came from."""
    key, distance = jax.random.key(0), jnp.float32(most)
    return np.asarray(blurs._shaken(numbered(height, width), key, distance, most))[..., 0].astype(
        int
    )


def test_glass_moves_pixels_by_one_up_and_left() -> None:
    height, width = 60, 50
    came = shaken(height, width, 1)
    up, left = (np.indices((height, width)) - np.stack(np.divmod(came, width))).astype(int)
    inner = np.zeros((height, width), bool)
    inner[2:, 2:] = True
    assert (up[~inner] == 0).all()
    assert (left[~inner] == 0).all()
    assert set(up.ravel()) == set(left.ravel()) == {0, 1}
    assert stats.chisquare(np.bincount((2 * up + left)[inner])).pvalue > 1e-3
    # The same exchanges one after the other, from the last pixel on, on NumPy's views.
    x = np.asarray(numbered(height, width)).copy()
    for h in range(height - 1, 1, -1):
        for w in range(width - 1, 1, -1):
            there = h - up[h, w], w - left[h, w]
            x[h, w], x[there] = x[there], x[h, w]
    assert_same(x[..., 0].astype(int), came)


@pytest.mark.parametrize("most", [2, 4])
def test_glass_moves_pixels_that_have_been_moved(most: int) -> None:
    """As one loop from the last pixel to the first does on NumPy's views, from the same draws."""
    height, width = 30, 20
    u = np.asarray(jax.random.uniform(jax.random.key(0), (2, height, width), jnp.float32))
    down, right = np.floor(2 * most * u).astype(int) - most
    expected = np.arange(height * width).reshape(height, width)
    for h in range(height - most, most, -1):
        for w in range(width - most, most, -1):
            expected[h, w] = expected[h + down[h, w], w + right[h, w]]
    assert_same(shaken(height, width, most), expected)
    assert {-most, most - 1} == {down.min(), down.max()}


def test_glass_blur_smooths_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """With something in place of the exchanges that shows how often they happen."""
    monkeypatch.setattr(blurs, "_shaken", lambda image, *_: image + 0.125)
    glass = jax.jit(blurs.glass_blur)
    table = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))
    for severity, (sigma, times) in zip(SEVERITIES, table, strict=True):
        first = ndimage.gaussian_filter(CLEAN[0], (sigma, sigma, 0), mode="nearest")
        truncated = np.floor(first * 255 + 5e-5) / 255
        expected = ndimage.gaussian_filter(truncated, (sigma, sigma, 0), mode="nearest")
        result = glass(jnp.asarray(CLEAN[0], jnp.float32), severity, jax.random.key(0))
        off = np.abs(result - expected - 0.125 * times)
        assert off.max() < 1.01 / 255  # where a value is just at a level
        assert (off < 1e-6).mean() > 0.9
