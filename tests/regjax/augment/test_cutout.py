"""Cutout: where the square lies, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support import assert_close, assert_same, flat_identity, random_batch

import regjax as rj


def cut(image: jax.Array, size: float, seed: int = 0, **fields: jax.Array) -> np.ndarray:
    """The images after cutout."""
    label = jnp.full((len(image), image[0].size), 1 / image[0].size)
    loss, forward = rj.cutout(rj.cross_entropy(), size=size), rj.from_function(flat_identity, None)
    batch = rj.Batch(image, label, **fields)
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(seed))
    return np.asarray(result.outputs.logits).reshape(image.shape)


def squares(length: int, size: int, width: int) -> set[tuple[int, int]]:
    """First and last of the pixels that a square can take along a side, by hand."""
    possible = set()
    for centre in range(length):
        inside = [p for p in range(length) if centre - size // 2 <= p < centre - size // 2 + size]
        possible.add((inside[0], inside[-1]))
    return possible


@pytest.mark.parametrize("size", [1, 2, 3, 4, 16])
def test_a_clipped_square_of_zeros(size: int) -> None:
    image = jnp.ones((400, 7, 5, 2))
    black = cut(image, size)[..., 0] == 0
    assert_same(cut(image, size)[..., 1] == 0, black)
    rows, columns = black.any(2), black.any(1)
    assert_same(black, rows[:, :, None] & columns[:, None, :])
    for inside, length in ((rows, 7), (columns, 5)):
        ends = {(np.flatnonzero(line)[0], np.flatnonzero(line)[-1]) for line in inside}
        assert ends == squares(length, size, length)


def test_centres_are_uniform_over_the_pixels() -> None:
    black = cut(jnp.ones((6000, 4, 3, 1)), 1)[..., 0] == 0
    assert (black.sum((1, 2)) == 1).all()
    assert stats.chisquare(black.sum(0).ravel()).pvalue > 1e-3


def test_the_area_of_a_square_of_16_on_32_pixels() -> None:
    """From 8 x 8 in a corner to 16 x 16; the two sides are drawn independently."""
    sides = [min(c + 8, 32) - max(c - 8, 0) for c in range(32)]
    lost = (cut(jnp.ones((4000, 32, 32, 1)), 16) == 0).sum((1, 2, 3))
    area = np.outer(sides, sides)
    assert abs(lost.mean() - area.mean()) < 4 * area.std() / np.sqrt(4000)
    assert lost.min() == 64
    assert lost.max() == 256


def test_size_zero_and_fractions_of_a_pixel() -> None:
    image = random_batch().image
    for size in (0, 0.9):
        assert_same(cut(image, size), image)
    assert_same(cut(image, 2.7), cut(image, 2))


def test_each_example_draws_by_its_index() -> None:
    index = np.array([7, 3, 0, 5])
    image = jnp.ones((8, 9, 9, 1))
    assert_same(cut(image[:4], 3, index=jnp.array(index)), cut(image, 3)[index])
    assert (cut(image, 3) != cut(image, 3, seed=1)).any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_image_keeps_its_type_and_its_other_pixels(dtype: jnp.dtype) -> None:
    batch = random_batch(dtype=dtype)
    _, changed = rj.cutout.definition.function(None, batch, jax.random.key(0), size=2.0)
    assert changed.image.dtype == dtype
    assert_same(changed.image, jnp.where(changed.image == 0, 0, batch.image))
    assert_same(changed.label, batch.label)


def test_what_is_cut_is_black_before_normalisation_where_asked() -> None:
    """A square of zeros in pixels, normalised afterwards, is one of `-mean / std`."""
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])
    pixels = np.random.default_rng(0).uniform(0.1, 1, (16, 8, 8, 3))
    fill = tuple(-mean / std)
    function = rj.cutout.definition.function

    def after(image: np.ndarray, **options: tuple[float, ...]) -> np.ndarray:
        batch = rj.Batch(jnp.asarray(image, jnp.float32), jnp.ones((16, 2)))
        return np.asarray(function(None, batch, jax.random.key(0), size=4.0, **options)[1].image)

    cut_first = (after(pixels) - mean) / std
    assert (cut_first < (0.05 - mean) / std).any((1, 2, 3)).all()
    assert_close(after((pixels - mean) / std, fill=fill), cut_first.astype(np.float32))


def test_a_fill_that_does_not_fit_is_refused() -> None:
    function = rj.cutout.definition.function
    batch = rj.Batch(jnp.ones((2, 4, 4, 3)), jnp.ones((2, 2)))
    for fill in ((0.0, 1.0), 0.5, ("a",)):
        with pytest.raises(ValueError, match=r"cutout needs a tuple of one number in fill"):
            function(None, batch, jax.random.key(0), size=2.0, fill=fill)


def test_images_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cutout needs images \[B, H, W, ...\].*\[2, 3\]"):
        cut(jnp.ones((2, 3)), 2)


def test_dense_labels_stay_where_pixels_are_lost() -> None:
    batch = rj.Batch(jnp.ones((4, 5, 5, 1)), jnp.ones((4, 5, 5, 2)))
    _, changed = rj.cutout.definition.function(None, batch, jax.random.key(0), size=3.0)
    assert (changed.image == 0).any()
    assert_same(changed.label, batch.label)
