"""Resizing: values by hand, both conventions against loops over pixels, nearest pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from regjax.core.resizing import RESIZINGS, nearest, resized


def looped(x: np.ndarray, size: tuple[int, int], corners: bool) -> np.ndarray:
    """Bilinear interpolation of `x [h, w]`, pixel by pixel."""
    out = np.zeros(size)
    for at in np.ndindex(*size):
        places = [
            i * (n - 1) / (m - 1) if corners else min(max((i + 0.5) * n / m - 0.5, 0), n - 1)
            for i, n, m in zip(at, x.shape, size, strict=True)
        ]
        low = [int(p) for p in places]
        high = [min(i + 1, n - 1) for i, n in zip(low, x.shape, strict=True)]
        (r, c), (i, j), (k, m) = [p - a for p, a in zip(places, low, strict=True)], low, high
        top, bottom = (1 - c) * x[i, j] + c * x[i, m], (1 - c) * x[k, j] + c * x[k, m]
        out[at] = (1 - r) * top + r * bottom
    return out


def test_five_pixels_to_nine_by_hand() -> None:
    x = jnp.arange(5.0).reshape(1, 5, 1, 1)
    corners = resized(x, (9, 1), "align_corners").ravel()
    np.testing.assert_array_equal(corners, np.arange(9) / 2)
    half = np.array([0, 3, 8, 13, 18, 23, 28, 33, 36]) / 9
    np.testing.assert_allclose(resized(x, (9, 1)).ravel(), half, rtol=1e-6)
    one = resized(jnp.full((1, 1, 1, 2), 3.0), (4, 5), "align_corners")
    np.testing.assert_array_equal(one, np.full((1, 4, 5, 2), 3.0))
    assert resized(x, (5, 1)) is x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("resizing", RESIZINGS)
@pytest.mark.parametrize("size", [(7, 11), (3, 2)])
def test_images_are_those_of_a_loop_over_pixels(resizing: str, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
    got = resized(jnp.asarray(x), size, resizing)
    for b, k in np.ndindex(2, 3):
        expected = looped(x[b, :, :, k], size, resizing != "half_pixel")
        np.testing.assert_allclose(got[b, :, :, k], expected, atol=1e-12)


def test_the_nearest_pixels_are_those_of_the_program() -> None:
    x = jnp.arange(769).reshape(1, 769, 1, 1)
    of = {each: nearest(x, (97, 1), each).ravel() for each in RESIZINGS}
    np.testing.assert_array_equal(of["align_corners"], 8 * np.arange(97))
    program = np.asarray(of["as_in_program"])
    assert [*program[:4], program[-1]] == [0, 7, 15, 23, 761]
    np.testing.assert_array_equal(nearest(x[:, :6], (2, 1)).ravel(), [1, 4])
    with pytest.raises(ValueError, match="resizing must be 'half_pixel' or"):
        nearest(x, (97, 1), "corners")


@pytest.mark.slow
def test_second_derivatives_are_those_of_a_linear_map() -> None:
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    hessian = jax.hessian(lambda x: jnp.sum(resized(x, (5, 6), "align_corners") ** 2))(x)
    basis = resized(jnp.eye(12).reshape(12, 3, 4, 1), (5, 6), "align_corners").reshape(12, -1)
    np.testing.assert_allclose(hessian.reshape(12, 12), 2 * basis @ basis.T, atol=1e-5)
