"""Normalisation against the same in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.preprocessing import normalise

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.mark.parametrize("function", [normalise, jax.jit(normalise)])
@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (10, 4, 3), (1, 2, 5, 4, 3)])
def test_per_channel(function, shape):
    result = function(jnp.asarray(IMAGE.reshape(shape)), jnp.array(MEAN), jnp.array(STD))
    expected = (IMAGE.astype(np.float64) / 255 - MEAN) / STD
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected.reshape(shape), rtol=1e-5, atol=1e-6)


def test_the_default_scales_to_the_unit_interval():
    result = normalise(jnp.asarray(IMAGE))
    np.testing.assert_allclose(result, IMAGE / 255.0, rtol=1e-6)
    ends = normalise(jnp.array([0, 255], jnp.uint8)[:, None, None, None])
    assert ends.ravel().tolist() == [0.0, 1.0]


def test_one_number_for_all_channels():
    image = jnp.asarray(IMAGE)
    np.testing.assert_array_equal(normalise(image, 0.5, 0.2), normalise(image, [0.5], [0.2] * 3))


def test_floats_are_not_scaled_twice():
    scaled = jnp.asarray(IMAGE / 255, jnp.float32)
    expected = normalise(jnp.asarray(IMAGE), MEAN, STD)
    np.testing.assert_allclose(normalise(scaled, MEAN, STD), expected, rtol=1e-5, atol=1e-6)


def test_other_integers_are_refused():
    with pytest.raises(TypeError, match="must be uint8 or floating, not int32"):
        normalise(jnp.zeros((1, 2, 2, 1), jnp.int32))


def test_a_wrong_number_of_channels():
    with pytest.raises(ValueError, match="mean has 2 numbers, but the image 3 channels"):
        normalise(jnp.asarray(IMAGE), mean=(0.1, 0.2))
