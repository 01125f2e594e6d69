"""Every operation of a policy against float64 of its own, made of SciPy and loops.

Covers `strengths.py` too.
"""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from regjax.augment import changes, strengths
from regjax.augment.strengths import NAMES

HEIGHT, WIDTH = 6, 9
MAGNITUDES = (0.0, 0.13, 0.5, 0.8, 1.0)


def cases(channels):
    """Of each operation and magnitude two: image, code, magnitude, draws, field."""
    generator = np.random.default_rng(channels)
    for name in NAMES:
        for magnitude in MAGNITUDES:
            for _ in range(2):
                image = generator.uniform(size=(HEIGHT, WIDTH, channels)).astype(np.float32)
                image[0, 0] = image[0, 0, 0]  # a grey one
                draws = generator.uniform(size=strengths.DRAWS).astype(np.float32)
                field = generator.uniform(-1, 1, (HEIGHT, WIDTH, channels + 1)).astype(np.float32)
                yield image, NAMES.index(name), np.float32(magnitude), draws, field


@functools.cache
def results(channels):
    def one(image, code, magnitude, draws, field):
        change = strengths.change(code, magnitude, draws, (HEIGHT, WIDTH, channels))
        return changes.apply(image, change, field)

    given = [np.stack(column) for column in zip(*cases(channels), strict=True)]
    return np.asarray(jax.jit(jax.vmap(one))(*map(jnp.asarray, given)))


def sampled(image, place, mode):
    """Between pixels, by rows and columns `place [2, H, W]`."""
    interpolate = functools.partial(ndimage.map_coordinates, order=1, mode=mode)
    return np.stack([interpolate(image[..., k], place) for k in range(image.shape[-1])], -1)


def warped(image, source):
    """Where each pixel comes from, as a function of complex numbers from the middle, x + iy."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    middle = (WIDTH - 1) / 2 + 1j * (HEIGHT - 1) / 2
    place = source(x + 1j * y - middle) + middle
    return sampled(image, np.stack([place.imag, place.real]), "grid-constant")


def crop(image, m, u, _):
    sides = np.array([HEIGHT, WIDTH])
    cuts = np.floor(u[:4].reshape(2, 2) * (np.floor(m * sides) + 1))
    cuts = np.floor(cuts * np.minimum(1, (sides - 1) / np.maximum(cuts.sum(0), 1))).astype(int)
    (top, left), (bottom, right) = cuts
    left_over = image[top : HEIGHT - bottom, left : WIDTH - right]
    assert left_over.size
    grid = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    ratio = np.array(left_over.shape[:2]) / sides
    return sampled(left_over, (grid + 0.5) * ratio[:, None, None] - 0.5, "nearest")


def rotate(image, m, u, _):
    return warped(image, lambda z: z * np.exp(-1j * np.radians(180 * m * (2 * u[0] - 1))))


def shear(image, m, u, _):
    degrees = np.clip(90 * m * (2 * u[0] - 1), -89, 89)
    return warped(image, lambda z: z + z.imag * np.tan(np.radians(degrees)))


def translate(axis, image, m, u, _):
    pixels = round(float(m * image.shape[axis] * (2 * u[0] - 1)))
    return ndimage.shift(image, np.eye(3)[axis] * pixels, order=0, mode="constant")


def flip(axis, image, m, u, _):
    return np.flip(image, axis) if u[0] < m else image


def blur(image, m, u, _):
    def smooth(x):
        for axis in (0, 1):
            x = ndimage.gaussian_filter1d(x, 25 * m * u[0], axis, mode="constant", radius=20)
        return x

    return smooth(image) / smooth(np.ones_like(image)) if 25 * m * u[0] > 0 else image


def filtered(kernel, image, m, u, _):
    after = ndimage.correlate(image, kernel(m, u[1])[..., None], mode="mirror")
    return (1 - u[0]) * image + u[0] * after


def sharp(m, u):
    return np.array([[-1, -1, -1], [-1, 8.5 + u * (5 * m - 0.5), -1], [-1, -1, -1]])


def embossed(m, u):
    s = 20 * m * u
    return np.array([[-1 - s, -s, 0], [-s, 1, s], [0, s, 1 + s]])


def hue_saturation(image, m, u, _):
    if image.shape[-1] == 1:
        return image
    by, after = 45 / 255 * m * (2 * u[0] - 1), image.copy()
    for at in np.ndindex(HEIGHT, WIDTH):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[at])
        if saturation > 0:
            after[at] = colorsys.hsv_to_rgb((hue + by) % 1, np.clip(saturation + by, 0, 1), value)
    return after


def by_channel(field, own):
    channels = field.shape[-1] - 1
    return field[..., :channels] if own else np.repeat(field[..., :1], channels, -1)


def noise(image, m, u, field):
    normal = stats.norm.ppf((by_channel(field, u[4] < 0.5) + 1) / 2)
    return image + m * u[0] * normal


def dropout(image, m, u, field):
    chance = 0.01 + (max(0.011, m) - 0.01) * u[0]
    return np.where((by_channel(field, u[4] < 0.5) + 1) / 2 < chance, 0, image)


def in_cells(field, share):
    """Each pixel has the number of its cell's."""
    rows, columns = (min(max(int(share * n), 4), n) for n in (HEIGHT, WIDTH))
    found = np.empty_like(field)
    for i, j in np.ndindex(HEIGHT, WIDTH):
        found[i, j] = field[int((i + 0.5) * rows / HEIGHT), int((j + 0.5) * columns / WIDTH)]
    return found


def coarse_dropout(image, m, u, field):
    most = max(np.log10(3 * m), 0) if m > 0 else 0
    cells = in_cells(by_channel(field, u[4] < 0.2), 0.3 + (most - 0.3) * u[1])
    return np.where((cells + 1) / 2 < 0.03 + 0.12 * u[0], 0, image)


def salt_pepper(image, m, u, field):
    grains = stats.beta.ppf((field[..., -1:] + 1) / 2, 0.5, 0.5)
    cells = in_cells(by_channel(field, False), m)
    return np.where((cells + 1) / 2 < 0.2, grains, image)


def brighten(image, m, u, _):
    channels = image.shape[-1]
    each = u[:channels] if u[4] < 0.5 else np.repeat(u[:1], channels)
    return image + 40 / 255 * m * (2 * each - 1)


ORACLES = {
    "crop": crop,
    "blur": blur,
    "rotate": rotate,
    "shear": shear,
    "translate_x": functools.partial(translate, 1),
    "translate_y": functools.partial(translate, 0),
    "flip_x": functools.partial(flip, 1),
    "flip_y": functools.partial(flip, 0),
    "sharpen": functools.partial(filtered, sharp),
    "emboss": functools.partial(filtered, embossed),
    "noise": noise,
    "dropout": dropout,
    "coarse_dropout": coarse_dropout,
    "gamma": lambda image, m, *_: image ** (1.75 * m),
    "brighten": brighten,
    "invert": lambda image, *_: 1 - image,
    "hue_saturation": hue_saturation,
    "salt_pepper": salt_pepper,
}


def test_every_operation_has_an_oracle():
    assert list(ORACLES) == list(NAMES)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_what_it_says(name, channels):
    """The blur's sums and the normals' table are less exact than all else."""
    seen = 0
    for case, result in zip(cases(channels), results(channels), strict=True):
        image, code, magnitude, draws, field = (np.asarray(x, np.float64) for x in case)
        if code != NAMES.index(name):
            continue
        expected = np.clip(ORACLES[name](image, float(magnitude), draws, field), 0, 1)
        np.testing.assert_allclose(result, expected, atol=5e-4 if name == "noise" else 5e-5)
        seen += np.abs(expected - image).max() > 0.01
    assert seen >= (0 if (name, channels) == ("hue_saturation", 1) else 3)


@pytest.mark.parametrize("channels", [3, 1])
def test_a_rotation_by_nothing_keeps_every_bit(channels):
    for (image, code, magnitude, *_), result in zip(
        cases(channels), results(channels), strict=True
    ):
        if (code, magnitude) == (NAMES.index("rotate"), 0):
            np.testing.assert_array_equal(result, image)
