"""Scaled crops beside NumPy, which enlarges, pads and cuts; what is drawn, read off a ramp."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats
from support import assert_same

import regjax as rj

KEY = jax.random.key(0)
CLASSES = 4


def changed(batch: rj.Batch, **arguments: Any) -> rj.Batch:
    """The batch after the stage."""
    stage = rj.scaled_crop(rj.cross_entropy(), **arguments).stages[1]
    return stage.definition.function(None, batch, KEY, **stage.arguments)[1]


def random_images(count: int, height: int, width: int, dtype: Any = np.float32) -> rj.Batch:
    """Random pixels, with one-hot labels of which some are all 0."""
    rng = np.random.default_rng(0)
    label = np.eye(CLASSES + 1)[rng.integers(CLASSES + 1, size=(count, height, width))]
    image = rng.normal(size=(count, height, width, 2)).astype(dtype)
    return rj.Batch(jnp.asarray(image), jnp.asarray(label[..., :CLASSES], jnp.float32))


def enlarged(image: np.ndarray, factor: float) -> np.ndarray:
    """The whole image in another size, pixel by pixel, in float64."""
    height, width = (max(round(side * factor), 1) for side in image.shape[:2])
    result = np.zeros((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            row, column = (
                min(max((k + 0.5) / factor - 0.5, 0.0), side - 1.0)
                for k, side in zip((i, j), image.shape[:2], strict=True)
            )
            for r in {int(row), min(int(row) + 1, image.shape[0] - 1)}:
                for c in {int(column), min(int(column) + 1, image.shape[1] - 1)}:
                    share = (1 - abs(row - r)) * (1 - abs(column - c))
                    result[i, j] += share * image[r, c]
    return result


def enlarged_labels(label: np.ndarray, factor: float) -> np.ndarray:
    """The same of labels: of all pixels the one whose middle is nearest."""
    middles = [np.arange(side) + 0.5 for side in label.shape[:2]]
    sides = [max(round(side * factor), 1) for side in label.shape[:2]]
    places = [(np.arange(side) + 0.5) / factor for side in sides]
    which = [np.abs(p[:, None] - m).argmin(1) for p, m in zip(places, middles, strict=True)]
    return label[np.ix_(*which)]


def cut(image: np.ndarray, size: tuple[int, int], drawn: np.ndarray, fill: Any) -> np.ndarray:
    """Padded at bottom and right, and cut out."""
    pads = [max(side - has, 0) for side, has in zip(size, image.shape, strict=False)]
    padded = np.stack(
        [
            np.pad(image[..., k], [(0, pads[0]), (0, pads[1])], constant_values=fill[k])
            for k in range(image.shape[-1])
        ],
        -1,
    )
    room = [has - side + 1 for has, side in zip(padded.shape, size, strict=False)]
    down, right = (int(np.floor(u * r)) for u, r in zip(drawn, room, strict=True))
    return padded[down : down + size[0], right : right + size[1]]


@pytest.mark.parametrize(
    ("size", "low", "high", "step", "kinds"),
    [
        ((9, 14), 0.5, 2.5, 0.0, 3),  # padded at the right, at the bottom too, not at all
        ((3, 3), 0.3, 1.0, 0.0, 2),
        ((30, 5), 1.4, 2.0, 0.2, 1),
    ],
)
def test_a_crop_is_what_resizing_padding_and_cutting_make(
    size: tuple[int, int], low: float, high: float, step: float, kinds: int
) -> None:
    batch, fill = random_images(24, 8, 11), (-3.0, 5.0)
    after = changed(batch, size=size, low=low, high=high, step=step, fill=fill)
    assert after.image.shape == (24, *size, 2)
    keys = rj.example_keys(KEY, batch)
    padded = set()
    for i in range(24):
        drawn = np.float64(jax.random.uniform(keys[i], (3,), jnp.float32))
        factor = low + (high - low) * drawn[0]
        if step:
            factor = low + step * int(drawn[0] * (1 + round((high - low) / step)))
        image = enlarged(np.float64(batch.image[i]), factor)
        padded.add(tuple(np.less(image.shape[:2], size)))
        np.testing.assert_allclose(after.image[i], cut(image, size, drawn[1:], fill), atol=2e-5)
        label = enlarged_labels(np.asarray(batch.label[i]), factor)
        assert_same(np.asarray(after.label[i]), cut(label, size, drawn[1:], [0] * CLASSES))
    assert len(padded) == kinds


def test_at_factor_one_the_pixels_are_those_of_the_image() -> None:
    batch = random_images(40, 6, 7)
    after = changed(batch, size=(4, 5), low=1, high=1)
    crops = [(i, j) for i in range(3) for j in range(3)]
    found = []
    for before, image, label, dense in zip(
        *map(np.asarray, (batch.image, after.image, after.label, batch.label)), strict=True
    ):
        (place,) = [(i, j) for i, j in crops if (before[i : i + 4, j : j + 5] == image).all()]
        assert_same(label, dense[place[0] : place[0] + 4, place[1] : place[1] + 5])
        found.append(place)
    assert set(found) == set(crops)


@pytest.mark.slow
def test_factors_and_places_are_all_equally_likely() -> None:
    """The slope of a ramp tells the factor, and its first pixel the place."""
    ramp = jnp.broadcast_to(jnp.arange(400.0).reshape(1, 1, -1, 1), (3000, 1, 400, 1))
    batch = rj.Batch(ramp, jnp.zeros((3000, 2)))
    line = functools.partial(changed, batch, size=(1, 50))
    image = np.float64(line(low=0.7, high=2.1, step=0.1).image[:, 0, :, 0])
    factor = 1 / np.median(np.diff(image), 1)
    which = np.round((factor - 0.7) / 0.1).astype(int)
    np.testing.assert_allclose(factor, 0.7 + 0.1 * which, atol=1e-3)
    assert stats.chisquare(np.bincount(which, minlength=15)).pvalue > 1e-3
    image = np.float64(line(low=0.7, high=2.1).image[:, 0, :, 0])
    factor = 1 / np.median(np.diff(image), 1)
    assert stats.kstest((factor - 0.7) / 1.4, "uniform").pvalue > 1e-3
    start = np.float64(line(low=1, high=1).image[:, 0, 0, 0])
    assert start.max() <= 350
    assert stats.chisquare(np.bincount(start.astype(int) // 27, minlength=13)).pvalue > 1e-3


@pytest.mark.slow
def test_the_largest_factor_is_reached_and_none_beyond() -> None:
    """(0.9 - 0.3) / 0.2 is less than 3 where it is rounded."""
    ramp = jnp.broadcast_to(jnp.arange(400.0).reshape(1, 1, -1, 1), (200, 1, 400, 1))
    batch = rj.Batch(ramp, jnp.zeros((200, 2)))
    image = changed(batch, size=(1, 50), low=0.3, high=0.9, step=0.2).image[:, 0, :, 0]
    factors = np.unique(np.round(1 / np.median(np.diff(image), 1), 3))
    np.testing.assert_allclose(factors, [0.3, 0.5, 0.7, 0.9])


def test_labels_of_images_stay_and_the_image_is_as_with_dense_ones() -> None:
    batch = random_images(5, 6, 7)
    plain = batch.replace(label=jnp.full((5, 3), 1 / 3))
    options = {"size": 5, "low": 0.5, "high": 2}
    after = changed(plain, **options)
    assert_same(after.label, plain.label)
    assert_same(after.image, changed(batch, **options).image)


def test_an_image_is_never_less_than_a_pixel() -> None:
    batch = random_images(3, 6, 7)
    after = changed(batch, size=2, low=0, high=0, fill=(9,))
    assert np.isfinite(after.image).all()
    assert_same(np.asarray(after.image == 9).all(-1), np.array([[[False, True], [True, True]]] * 3))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_images_and_labels_keep_their_types(dtype: str) -> None:
    batch = random_images(3, 6, 7)
    batch = batch.replace(image=batch.image.astype(dtype), label=batch.label.astype(dtype))
    after = changed(batch, size=5, low=0.5, high=2)
    assert (after.image.dtype, after.label.dtype) == (dtype, dtype)


@pytest.mark.slow
def test_gradients_through_the_image_to_order_two() -> None:
    with jax.enable_x64(True):
        batch = random_images(2, 4, 5, np.float64)

        def total(image: jax.Array) -> jax.Array:
            moved = changed(batch.replace(image=image), size=(5, 4), low=0.5, high=1.5)
            return jnp.sum(moved.image**3)

        check_grads(total, (batch.image,), order=2, modes=("rev",), eps=1e-4)


def test_no_whole_image_is_enlarged() -> None:
    """The largest array of the program is of the crop's rows, whatever the factor."""
    batch = random_images(2, 64, 64)
    moved = functools.partial(changed, size=8, low=50, high=100)
    program = jax.make_jaxpr(moved)(batch).jaxpr
    largest = max(v.aval.size for e in program.eqns for v in e.outvars)
    assert largest <= batch.label.size


def test_what_does_not_fit_is_refused() -> None:
    batch, options = random_images(2, 4, 4), {"size": 3, "low": 1, "high": 2}
    with pytest.raises(ValueError, match=r"images are \[2, 4, 4, 2\] and fill is \(0, 1, 2\)"):
        changed(batch, **options, fill=(0, 1, 2))
    with pytest.raises(ValueError, match=r"tuple of one number in fill.* fill is 0.5"):
        changed(batch, **options, fill=0.5)
    with pytest.raises(ValueError, match=r"scaled_crop needs images \[B, H, W, ...\]"):
        changed(rj.Batch(jnp.ones((2, 4)), jnp.ones((2, 3))), **options)
    with pytest.raises(ValueError, match="scaled_crop's size must be at least 1, but it is 0"):
        changed(batch, **options | {"size": 0})
    for wrong in ((3,), (3, 0), (3, 4, 5), 2.5):
        sentence = re.escape(f"such as (512, 1024), but it is {wrong!r}")
        with pytest.raises(ValueError, match=sentence):
            changed(batch, **options | {"size": wrong})
    sentence = re.escape("Batch.label is [2, 5, 4, 3] and") + ".*at the size of the images"
    with pytest.raises(ValueError, match=sentence):
        changed(batch.replace(label=jnp.ones((2, 5, 4, 3))), **options)
