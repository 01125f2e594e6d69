"""Whitening against NumPy in float64, by singular values where the code takes eigenvalues."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import whitening
from experiments.data.preprocessing import normalise

SHAPE = (3, 4, 2)
SIZE = 24
MEAN, STD = (0.5, 0.4), (0.2, 0.25)
RNG = np.random.default_rng(0)
MIX = RNG.uniform(-1, 1, (SIZE, SIZE))


def images(count: int) -> np.ndarray:
    """Of pixels that depend on each other, uint8."""
    x = RNG.normal(0, 20, (count, SIZE)) @ MIX + 120
    return np.clip(x, 0, 255).astype(np.uint8).reshape(count, *SHAPE)


TRAIN, TEST = images(300), images(7)


def flat(
    image: np.ndarray, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()
) -> np.ndarray:
    """Rows of float64."""
    x = (image / 255 - (mean or 0)) / (std or 1)
    return x.reshape(len(x), -1)


def whitened(x: np.ndarray, train: np.ndarray, epsilon: float) -> np.ndarray:
    """`(x - m) V (s^2 / N + epsilon)^(-1/2) V'` by the singular values of the training rows."""
    centred = train - train.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    scale = 1 / np.sqrt(values**2 / len(train) + epsilon)
    return (x - train.mean(0)) @ directions.T @ np.diag(scale) @ directions


def contrasts(x: np.ndarray, norm: float) -> np.ndarray:
    """Rows without their mean, of one length."""
    x = x - x.mean(1, keepdims=True)
    return norm * x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
def test_variances_become_s_by_s_plus_epsilon_in_the_directions_of_the_data(epsilon):
    covariance = np.cov(flat(TRAIN).T, bias=True)
    root = whitening.inverse_root(covariance, epsilon)
    variance, directions = np.linalg.eigh(covariance)
    found = directions.T @ root @ covariance @ root @ directions
    expected = np.diag(variance / (variance + epsilon))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("normalised", [{}, {"mean": MEAN, "std": STD}])
def test_images_of_the_test_are_whitened_by_mean_and_matrix_of_the_training_images(normalised):
    zca = whitening.fit("zca(epsilon=1e-3)", TRAIN, **normalised)
    function = whitening.prepare("zca(epsilon=1e-3)", zca, **normalised)
    expected = whitened(flat(TEST, **normalised), flat(TRAIN, **normalised), 1e-3)
    found = jax.jit(function)(TEST)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected.reshape(TEST.shape), rtol=1e-4, atol=1e-4)


def test_stages_before_it_are_learnt_from_too():
    text = "gcn(norm=5.0) | zca(epsilon=0.1)"
    zca = whitening.fit(text, TRAIN)
    expected = whitened(contrasts(flat(TEST), 5.0), contrasts(flat(TRAIN), 5.0), 0.1)
    found = whitening.prepare(text, zca)(TEST)
    np.testing.assert_allclose(found, expected.reshape(TEST.shape), rtol=1e-4, atol=1e-4)


def test_white_data_stay_what_they_are_but_for_epsilon():
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=6)), np.float32)
    image = corners.reshape(64, 2, 3, 1)  # the mean 0, the covariance the identity
    zca = whitening.fit("zca(epsilon=0.5)", image)
    np.testing.assert_allclose(zca.matrix, np.eye(6) / 1.5**0.5, atol=1e-7)
    np.testing.assert_allclose(zca.mean, 0, atol=1e-7)
    assert zca.length == pytest.approx(2.0)  # (6 / 1.5)^(1/2)


def test_chunks_change_nothing(monkeypatch):
    whole = whitening.fit("zca(epsilon=1e-3)", TRAIN)
    monkeypatch.setattr(whitening, "CHUNK", 70)
    parts = whitening.fit("zca(epsilon=1e-3)", TRAIN)
    np.testing.assert_allclose(parts.matrix, whole.matrix, rtol=1e-5, atol=1e-5)
    expected = np.linalg.norm(whitened(flat(TRAIN), flat(TRAIN), 1e-3), axis=1).mean()
    assert parts.length == pytest.approx(expected) == whole.length


@pytest.mark.parametrize(
    ("text", "length"), [("gcn", 55), ("gcn(norm=2)", 2), ("standardise", 24**0.5)]
)
def test_each_image_by_itself_has_mean_zero_and_one_length(text, length):
    found = whitening.prepare(text, None)(TEST)
    expected = contrasts(flat(TEST), length)
    np.testing.assert_allclose(found, expected.reshape(TEST.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", ["gcn", "standardise"])
def test_an_image_of_one_colour_becomes_zero_and_has_a_gradient(text):
    """Also where float32 has no such mean: the rounding is not what is scaled to a length."""
    function = whitening.prepare(text, None, (0.49,), (0.2,))
    grey = np.broadcast_to(np.arange(0, 256, 9, np.uint8)[:, None, None, None], (29, 32, 32, 3))
    for image in (grey, grey / np.float32(300)):
        np.testing.assert_array_equal(jax.jit(function)(image), 0)
    one = grey.copy()
    one[:, 3, 5, 1] ^= 1  # seen all the same
    lengths = np.linalg.norm(function(one).reshape(29, -1), axis=1)
    np.testing.assert_allclose(lengths, 55 if text == "gcn" else 3072**0.5, rtol=1e-3)
    image = jnp.full((1, *SHAPE), 0.3)
    assert np.isfinite(jax.grad(lambda x: jnp.sum(function(x)[0, 0]))(image)).all()


def test_a_matrix_that_is_not_named_changes_nothing():
    other = whitening.Zca(np.ones(SIZE, np.float32), np.zeros((SIZE, SIZE), np.float32), 1.0)
    for text in ("", "gcn"):
        found = whitening.prepare(text, other)(TEST)
        np.testing.assert_array_equal(found, whitening.prepare(text, None)(TEST))


def test_without_stages_it_is_the_normalisation_to_the_last_bit():
    found = whitening.prepare("", None, MEAN, STD)(TEST)
    np.testing.assert_array_equal(found, normalise(TEST, MEAN, STD))


def test_another_deviation_for_one_call_as_corruptions_ask_for():
    zca = whitening.fit("zca(epsilon=1e-3)", TRAIN, MEAN, STD)
    function = whitening.prepare("zca(epsilon=1e-3)", zca, MEAN, STD)
    other = whitening.prepare("zca(epsilon=1e-3)", zca, MEAN, (0.3,))
    np.testing.assert_array_equal(function(TEST, std=(0.3,)), other(TEST))


def test_the_product_is_of_whole_float32_everywhere():
    function = whitening.prepare("zca", whitening.blank(SHAPE))
    (product,) = (
        e for e in jax.make_jaxpr(function)(TEST).eqns if e.primitive.name == "dot_general"
    )
    assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}
    np.testing.assert_allclose(function(TEST), TEST / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pca", "unknown stage 'pca'; known are: gcn, standardise, zca"),
        ("gcn | | zca", r"the stage ' ' cannot be read"),
        ("zca(1e-5)", "cannot be read: write a name with keyword arguments"),
        ("zca(eps=1e-5)", "zca has no 'eps'; it takes: epsilon"),
        ("standardise(norm=1.0)", "standardise has no 'norm'; it takes: nothing"),
        ("zca(epsilon=0)", r"epsilon in 'zca\(epsilon=0\)' must be a positive number"),
        ("gcn(norm='x')", "must be a positive number"),
        ("zca | gcn", "zca must be the last of 'zca | gcn'"),
        ("zca | zca", "zca must be the last"),
    ],
)
def test_a_wrong_expression_is_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        whitening.read(text)


def test_images_that_are_too_large_and_a_matrix_that_is_missing():
    with pytest.raises(ValueError, match=r"150,528 x 150,528 numbers .* \[224, 224, 3\]"):
        whitening.fit("zca", np.zeros((1, 224, 224, 3), np.uint8))
    with pytest.raises(ValueError, match="150,528"):
        whitening.blank((224, 224, 3))
    with pytest.raises(ValueError, match=r"whitening\.npz in the work folder keeps"):
        whitening.prepare("zca", None)


def test_a_mean_of_other_channels_is_said_as_without_whitening():
    with pytest.raises(ValueError, match="mean has 3 numbers, but the image 2 channels"):
        whitening.fit("zca", TRAIN, (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="std has 3 numbers, but the image 1 channels"):
        whitening.fit("zca", TRAIN[..., :1], None, (0.5, 0.5, 0.5))
