"""The matrices against SciPy's filters and Pillow's box, for many lengths."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from regjax.corruptions import resampling

LENGTHS = [1, 2, 5, 24, 32, 33]
KEPT = (0.95, 0.9, 0.85, 0.75, 0.65)


def line(length: int) -> np.ndarray:
    return np.random.default_rng(length).normal(size=length)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("mode", "name"), [("nearest", "edge"), ("reflect", "reflect")])
def test_smoothing(length: int, mode: str, name: str) -> None:
    for sigma in (0, 0.05, 0.4, 1, 6.4):
        for truncate in (3.0, 4.0):
            matrix = resampling.smoothing(length, sigma, truncate, getattr(resampling, name))
            expected = ndimage.gaussian_filter1d(
                line(length), max(sigma, 1e-9), mode=mode, truncate=truncate
            )
            np.testing.assert_allclose(matrix @ line(length), expected, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS[2:])
def test_zoom(length: int) -> None:
    for factor in (1, 1.03, 1.1, 1.25, 1.75, 2.25):
        inner = int(np.ceil(length / factor))
        top = (length - inner) // 2
        large = ndimage.zoom(line(length)[top : top + inner], factor, order=1)
        start = (len(large) - length) // 2
        expected = large[start : start + length]
        np.testing.assert_allclose(
            resampling.zoom(length, factor) @ line(length), expected, atol=1e-12
        )


@pytest.mark.parametrize("length", [*LENGTHS, 13, 17, 29, 31, 64, 224])
def test_coarsening(length: int) -> None:
    """Also where a centre lies on an edge, to which side rounding errors put it."""
    row = np.random.default_rng(length).integers(0, 256, (1, length)).astype(np.uint8)
    for small in {1, (length + 1) // 2, *(max(int(c * length), 1) for c in KEPT), length}:
        image = Image.fromarray(row).resize((small, 1), Image.Resampling.BOX)
        expected = np.asarray(image.resize((length, 1), Image.Resampling.BOX))[0]
        means = resampling.coarsening(length, small) @ row[0]
        np.testing.assert_allclose(np.floor(means + 0.5 + 1e-9), expected)


def test_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    image, rows, columns = (rng.normal(size=s) for s in ((4, 3, 2), (4, 4), (3, 3)))
    expected = np.stack([rows @ image[..., k] @ columns.T for k in range(2)], -1)
    given = (jnp.asarray(x, jnp.float32) for x in (image, rows, columns))
    np.testing.assert_allclose(resampling.resample(*given), expected, rtol=2e-5, atol=1e-6)
