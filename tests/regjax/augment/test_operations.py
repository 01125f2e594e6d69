"""Every operation of AutoAugment and RandAugment is Pillow's, on photographs.

Covers `magnitudes.py` too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_pillow import WHOLE, changed, photographs
from support import assert_same

from regjax.augment.magnitudes import NAMES, RAND, table
from regjax.augment.operations import apply


@functools.partial(jax.jit, static_argnums=(2, 3))
def results(images, rows, fill, cubic):
    """Every image after every row, `[rows, images, H, W, K]`."""
    each = jax.vmap(lambda image, row: apply(image, row, fill, cubic), (0, None))
    return jax.vmap(each, (None, 0))(images, rows)


def pairs(images: np.ndarray, bins: int, as_in_program: bool):
    """Name, ours and Pillow's of each operation, at all levels and both signs."""
    rows = table(images.shape[1:3], bins, as_in_program)
    flat = jax.tree.map(lambda column: column.reshape(-1), rows)
    levels = jnp.asarray(images.reshape(*images.shape[:3], -1), jnp.int32)
    ours = np.asarray(results(levels, flat, 128 if as_in_program else 0, as_in_program))
    ours = ours.reshape(len(NAMES), bins, 2, *images.shape)
    for name, got in zip(NAMES, ours, strict=True):
        expected = [
            [
                [changed(x, name, level, bins, sign, as_in_program) for x in images]
                for sign in (-1, 1)
            ]
            for level in range(bins)
        ]
        yield name, got, np.array(expected, np.int32)


def assert_like_pillow(images: np.ndarray, bins: int, as_in_program: bool) -> None:
    """Bit by bit where Pillow's arithmetic is whole, else within a level, and hardly ever that."""
    for name, got, expected in pairs(images, bins, as_in_program):
        if name in WHOLE and not (as_in_program and name.startswith("shear")):
            assert_same(got, expected)
        else:
            assert np.abs(got - expected).max() <= 1, name
            assert np.mean(got != expected) < 0.02, name


@pytest.mark.parametrize(("bins", "as_in_program"), [(31, False), (10, True)])
def test_operations_are_those_of_pillow(bins: int, as_in_program: bool) -> None:
    assert_like_pillow(photographs()[1::3], bins, as_in_program)


@pytest.mark.slow
@pytest.mark.parametrize("as_in_program", [False, True])
@pytest.mark.parametrize("size", [(24, 37), (40, 45)])
def test_operations_are_those_of_pillow_at_other_sizes(size, as_in_program) -> None:
    assert_like_pillow(photographs(*size), 10, as_in_program)


@pytest.mark.slow
@pytest.mark.parametrize("as_in_program", [False, True])
def test_operations_are_those_of_pillow_on_grey_images(as_in_program) -> None:
    assert_like_pillow(np.ascontiguousarray(photographs()[..., 1]), 10, as_in_program)


def by_rules(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Autocontrast in whole numbers, and where its value is whole before it is rounded down."""
    image = image.astype(int)
    low, high = image.min((0, 1)), image.max((0, 1))
    whole, rest = np.divmod(255 * (image - low), high - low)
    return whole, rest == 0


def test_autocontrast_is_exact_where_pillow_may_fall_a_level_short() -> None:
    images = photographs()
    row = jax.tree.map(
        lambda column: column[NAMES.index("autocontrast"), :1, 0], table((32, 32), 2)
    )
    ours = np.asarray(results(jnp.asarray(images, jnp.int32), row, 0, False))[0]
    for image, got in zip(images, ours, strict=True):
        expected, is_whole = by_rules(image)
        assert_same(got, expected.astype(np.int32))
        short = got - changed(image, "autocontrast", 0, 2, 1, False)
        assert np.isin(short, (0, 1)).all()
        assert not short[~is_whole].any()


def test_flat_and_tiny_images_are_defined() -> None:
    """No step of equalize, no range of autocontrast, no neighbours of sharpness."""
    images = np.zeros((3, 2, 2, 3), np.uint8)
    images[1], images[2, 0, 0] = 255, (9, 200, 31)
    for name, got, expected in pairs(images, 4, False):
        if name in WHOLE:
            assert_same(got, expected)
        assert np.abs(got - expected).max() <= 1


# The tables, against the published numbers.


def rows_of(name: str, size: tuple[int, int] = (32, 32), *, program: bool = False, bins: int = 10):
    return jax.tree.map(lambda column: column[NAMES.index(name)], table(size, bins, program))


def test_levels_are_the_published_ones() -> None:
    bits = [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]
    for program in (False, True):
        kept = rows_of("posterize", program=program).mask[:, 0]
        assert [bin(mask).count("1") for mask in kept] == bits
        assert (kept & 128 == 128).all()
    thresholds = [256, 227.6, 199.1, 170.7, 142.2, 113.8, 85.3, 56.9, 28.4, 0]
    got = rows_of("solarize", program=True).threshold
    np.testing.assert_allclose(got[:, 1], thresholds, atol=0.06)
    np.testing.assert_allclose(
        rows_of("solarize").threshold[:, 0], np.linspace(255, 0, 10), rtol=1e-6
    )
    assert_same(rows_of("invert").threshold, np.zeros((10, 2), np.float32))
    for name in ("brightness", "color", "contrast", "sharpness"):
        factors = np.stack([1 - 0.1 * np.arange(10), 1 + 0.1 * np.arange(10)], 1)
        np.testing.assert_allclose(rows_of(name).factor, factors, rtol=1e-6)


def test_moves_are_the_published_ones() -> None:
    def shifts(name: str, program: bool, size: tuple[int, int] = (32, 32)) -> np.ndarray:
        place = rows_of(name, size, program=program).place
        return (place[2 if name.endswith("x") else 5] / 65536 - 0.5)[[3, 8, 9], 1]

    np.testing.assert_allclose(shifts("translate_x", True), [4.834, 12.890, 14.502], atol=1e-3)
    assert_same(shifts("translate_y", False), np.array([4.0, 12.0, 14.0]))
    assert_same(shifts("translate_x", False, (32, 64)), np.array([9.0, 25.0, 29.0]))
    shear = rows_of("shear_x").place[1] / 65536
    np.testing.assert_allclose(shear[[0, 9]], [[0, 0], [-0.3, 0.3]], atol=1e-5)
    sine = rows_of("rotate").place[3] / 65536
    np.testing.assert_allclose(sine[9], [-0.5, 0.5], atol=1e-5)
    program = rows_of("rotate", program=True).place[3] / 65536
    np.testing.assert_allclose(program[2], np.sin(np.radians([6.667, 6.667])), atol=1e-5)


def test_cubics_are_of_the_program_and_of_shears_alone() -> None:
    for name in NAMES:
        right, down = rows_of(name, program=True).along
        assert right.all() == (name == "shear_x")
        assert down.all() == (name == "shear_y")
        assert not np.any(rows_of(name).along)
    assert {*NAMES} - {*RAND} == {"invert"}
    assert len(RAND) == 14
