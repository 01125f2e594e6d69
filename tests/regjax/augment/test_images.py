"""Augmentation: where the square lies, which crops are drawn, what is turned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support import assert_same, random_batch

import regjax as rj
from regjax.augment import images as augment


def identity(params: None, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)


def cut(image: jax.Array, size: float, seed: int = 0, **fields: jax.Array) -> np.ndarray:
    """The images after cutout."""
    label = jnp.full((len(image), image[0].size), 1 / image[0].size)
    loss, forward = rj.cutout(rj.cross_entropy(), size=size), rj.from_function(identity, None)
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


def test_images_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cutout needs images \[B, H, W, ...\].*\[2, 3\]"):
        cut(jnp.ones((2, 3)), 2)


def test_a_box_of_two_sides() -> None:
    keys = jax.random.split(jax.random.key(0), 200)
    sides = (jnp.array(5.0), jnp.array(0.0))
    inside = jax.vmap(lambda k: augment.box(k, (6, 4), sides))(keys)
    assert inside.shape == (200, 6, 4)
    assert not inside.any()
    whole = jax.vmap(lambda k: augment.box(k, (6, 4), (jnp.array(13.0), jnp.array(9.0))))(keys)
    assert whole.all()


def augmented(stage: str, image: jax.Array, seed: int = 0) -> np.ndarray:
    """The images after a stage."""
    label = jnp.full((len(image), image[0].size), 1 / image[0].size)
    loss, forward = rj.parse(f"cross_entropy | {stage}"), rj.from_function(identity, None)
    batch = rj.Batch(image, label)
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(seed))
    return np.asarray(result.outputs.logits).reshape(image.shape)


def test_a_crop_is_one_out_of_the_padded_image_and_all_are_equally_likely() -> None:
    image = np.arange(1.0, 1 + 5 * 4 * 2).reshape(5, 4, 2).astype(np.float32)
    fill = (-1.0, -2.0)
    padded = np.full((9, 8, 2), fill, np.float32)
    padded[2:7, 2:6] = image
    crops = [padded[i : i + 5, j : j + 4] for i in range(5) for j in range(5)]
    got = augmented("random_crop(padding=2.9, fill=(-1, -2))", jnp.asarray([image] * 3000))
    which = np.array([[np.array_equal(g, c) for c in crops] for g in got])
    assert_same(which.sum(1), np.ones(3000, int))
    assert stats.chisquare(which.sum(0)).pvalue > 1e-3


def test_a_flip_turns_whole_images_as_often_as_asked() -> None:
    image = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    got = augmented("random_flip(probability=0.3)", jnp.asarray([image] * 3000))
    turned = (got == image[:, ::-1]).all((1, 2, 3))
    assert_same(turned | (got == image).all((1, 2, 3)), np.ones(3000, bool))
    assert abs(turned.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 3000)
    assert_same(augmented("random_flip(probability=1)", jnp.asarray([image]))[0], image[:, ::-1])


def test_what_does_not_fit_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"images are \[2, 4, 4, 3\] and fill is \(0, 1\)"):
        augmented("random_crop(padding=1, fill=(0, 1))", jnp.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"a tuple of one number in fill.* fill is 0.5"):
        augmented("random_crop(padding=1, fill=0.5)", jnp.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"random_flip needs images \[B, H, W, ...\]"):
        augmented("random_flip", jnp.ones((2, 4)))
