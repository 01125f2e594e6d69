"""Crops and flips: which are drawn, how often, and what they do to images."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support import assert_same, flat_identity

import regjax as rj


def augmented(stage: str, image: jax.Array, seed: int = 0) -> np.ndarray:
    """The images after a stage."""
    label = jnp.full((len(image), image[0].size), 1 / image[0].size)
    loss, forward = rj.parse(f"cross_entropy | {stage}"), rj.from_function(flat_identity, None)
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


@pytest.mark.parametrize(("size", "margin"), [((5, 4), 2), ((3, 1), 4)])
def test_a_crop_out_of_mirrors_is_one_of_what_numpy_pads(
    size: tuple[int, int], margin: int
) -> None:
    """Also where the margin is wider than the image, or the image a line."""
    image = np.arange(1.0, 1 + 2 * np.prod(size)).reshape(*size, 2).astype(np.float32)
    padded = np.pad(image, [(margin, margin)] * 2 + [(0, 0)], mode="reflect")
    every = range(2 * margin + 1)
    crops = [padded[i : i + size[0], j : j + size[1]] for i in every for j in every]
    got = augmented(f"random_crop(padding={margin}, mode='reflect')", jnp.asarray([image] * 300))
    found = [{i for i, crop in enumerate(crops) if np.array_equal(g, crop)} for g in got]
    assert all(found)
    assert len(set.union(*found)) == len(crops)


def test_mirrors_show_dense_labels_too_and_draw_as_a_margin_does() -> None:
    """What was inside stays as with a constant, and no label is lost."""
    before = dense_batch()
    after = changed("random_crop(padding=2, mode='reflect')", before)
    assert_same(after.label, after.image)
    plain = changed("random_crop(padding=2)", before)
    inside = np.asarray(plain.image != 0)
    assert not inside.all()
    assert_same(np.asarray(after.image)[inside], np.asarray(plain.image)[inside])


def test_a_flip_turns_whole_images_as_often_as_asked() -> None:
    image = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    got = augmented("random_flip(rate=0.3)", jnp.asarray([image] * 3000))
    turned = (got == image[:, ::-1]).all((1, 2, 3))
    assert_same(turned | (got == image).all((1, 2, 3)), np.ones(3000, bool))
    assert abs(turned.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 3000)
    assert_same(augmented("random_flip(rate=1)", jnp.asarray([image]))[0], image[:, ::-1])


def test_what_does_not_fit_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"images are \[2, 4, 4, 3\] and fill is \(0, 1\)"):
        augmented("random_crop(padding=1, fill=(0, 1))", jnp.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"a tuple of one number in fill.* fill is 0.5"):
        augmented("random_crop(padding=1, fill=0.5)", jnp.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match="mode must be 'constant' or 'reflect', not 'edge'"):
        augmented("random_crop(padding=1, mode='edge')", jnp.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"random_flip needs images \[B, H, W, ...\]"):
        augmented("random_flip", jnp.ones((2, 4)))


# Dense labels.


def dense_batch(size: int = 64) -> rj.Batch:
    """Images whose two channels, and labels whose two classes, tell the pixel's place."""
    place = jnp.arange(1.0, 21.0).reshape(1, 5, 4, 1) / 20
    image = jnp.broadcast_to(jnp.concatenate([place, 1.5 - place], -1), (size, 5, 4, 2))
    return rj.Batch(image, image)


def changed(stage: str, batch: rj.Batch) -> rj.Batch:
    """The batch after a stage."""
    wrapper = rj.parse(f"cross_entropy | {stage}").stages[1]
    function, arguments = wrapper.definition.function, wrapper.arguments
    return jax.jit(lambda batch: function(None, batch, jax.random.key(0), **arguments)[1])(batch)


@pytest.mark.parametrize("stage", ["random_crop(padding=2)", "random_flip"])
def test_dense_labels_move_as_their_pixels_do(stage: str) -> None:
    """Image and label are equal before, and after, since 0 comes in from outside of both."""
    before = dense_batch()
    after = changed(stage, before)
    assert_same(after.label, after.image)
    moved = (np.asarray(after.label) != np.asarray(before.label)).any((1, 2, 3))
    assert 0 < moved.sum() < 64


def test_what_a_crop_brings_in_has_no_label_whatever_the_fill() -> None:
    after = changed("random_crop(padding=2, fill=(9,))", dense_batch())
    outside = np.asarray(after.image == 9).all(-1)
    assert outside.any()
    assert_same(np.asarray(after.label == 0).all(-1), outside)
    assert after.label.dtype == jnp.float32


@pytest.mark.parametrize("stage", ["random_crop(padding=1)", "random_flip"])
def test_labels_of_images_stay_and_those_of_another_size_are_refused(stage: str) -> None:
    batch = dense_batch()
    label = jnp.full((64, 2), 0.5)
    assert_same(changed(stage, batch.replace(label=label)).label, label)
    assert_same(changed(stage, batch.replace(label=label)).image, changed(stage, batch).image)
    for shape in ((64, 5, 5, 2), (64, 10, 8, 2), (64, 5, 2), (64, 5, 4, 1, 2)):
        sentence = re.escape(f"Batch.label is {list(shape)} and") + ".*at the size of the images"
        with pytest.raises(ValueError, match=sentence):
            changed(stage, batch.replace(label=jnp.ones(shape)))
