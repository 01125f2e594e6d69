"""JPEG against Pillow, to the last bit."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import compiled, keys, pictures, pixels
from PIL import Image
from support import assert_same

from regjax.corruptions.jpeg import jpeg_compression
from regjax.corruptions.severities import Levels

QUALITIES = {1: 80, 2: 65, 3: 58, 4: 50, 5: 40}


def by_pillow(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


@pytest.mark.parametrize("severity", QUALITIES)
def test_pictures_are_pillows(severity: int) -> None:
    """Their sides are no multiples of the blocks, which are 8 and 16 pixels wide."""
    expected = [by_pillow(image, QUALITIES[severity]) for image in pictures()]
    result = compiled("jpeg_compression")(pixels(), severity, keys())
    assert_same(np.rint(np.asarray(result) * 255).astype(np.uint8), np.stack(expected))


@pytest.mark.parametrize(
    ("height", "width", "levels", "qualities"),
    [(16, 32, "cifar", QUALITIES), (13, 9, "imagenet", {1: 25, 2: 18, 3: 15, 4: 10, 5: 7})],
)
def test_noise_is_pillows(
    height: int, width: int, levels: Levels, qualities: dict[int, int]
) -> None:
    """All frequencies, values beyond the range, odd sides."""
    noise = np.random.default_rng(height).integers(0, 256, (30, height, width, 3), np.uint8)
    at_levels = functools.partial(jpeg_compression, levels=levels)
    compress = jax.jit(jax.vmap(at_levels, (0, None, None)))
    for severity, quality in qualities.items():
        result = compress(jnp.asarray(noise / 255, jnp.float32), severity, None)
        expected = [by_pillow(image, quality) for image in noise]
        assert_same(np.rint(np.asarray(result) * 255).astype(np.uint8), np.stack(expected))
