"""Parts of Keras's networks: a normalised convolution, means at edges, the refusal of sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

from experiments.models import applications


def test_means_at_edges_are_over_the_pixels_that_there_are() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3))
    sums, counts = (
        ndimage.convolve(a, np.ones((1, 3, 3, 1)), mode="constant") for a in (x, np.ones_like(x))
    )
    np.testing.assert_allclose(applications.mean_around(jnp.asarray(x)), sums / counts, atol=1e-6)
    np.testing.assert_array_equal(applications.mean_around(jnp.ones((1, 1, 1, 2))), 1)


def test_a_convolution_normalised_by_its_averages() -> None:
    part = applications.ConvNorm(
        3, 4, (1, 1), momentum=0.75, scale=False, activation=nnx.relu, rngs=nnx.Rngs(0)
    )
    x = jax.random.normal(jax.random.key(0), (5, 2, 2, 3))
    part(x)
    h = np.einsum("bijk,ko->bijo", np.float64(x), np.float64(part.conv.kernel[0, 0]))
    np.testing.assert_allclose(part.norm.mean[...], 0.25 * h.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(part.norm.var[...], 0.75 + 0.25 * h.var((0, 1, 2)), rtol=1e-5)
    part.eval()
    mean, var = (np.asarray(each[...]) for each in (part.norm.mean, part.norm.var))
    expected = (h - mean) / np.sqrt(var + 1e-3)
    np.testing.assert_allclose(part(x), np.maximum(expected, 0), atol=1e-5)
    assert part.norm.scale is None
    assert part.conv.bias is None


def test_depthwise_kernels_start_as_in_keras() -> None:
    """Uniform below sqrt(6 / (inputs + outputs)), of which there are 9 channels and 9."""
    conv = applications.depthwise(500, 3, 1, nnx.Rngs(0))
    limit = np.sqrt(6 / (9 * 500 + 9))
    assert conv.kernel.shape == (3, 3, 1, 500)
    assert 0.99 * limit < np.abs(conv.kernel[...]).max() <= limit


def test_small_sides_are_refused() -> None:
    applications.check_size("it", (8, 9, 1), 8)
    for shape in ((7, 9, 1), (9, 7, 1)):
        with pytest.raises(ValueError, match="it needs images of at least 8 x 8 pixels, but these"):
            applications.check_size("it", shape, 8)
