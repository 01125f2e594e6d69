"""The dense network: its counts, its layers, its formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_checks import abstract, assert_takes_a_step, averages, fill, image, parameters, tapped

import regjax.flax
from experiments import models

SHAPE = (4, 4, 1)
TEXT = "mlp(widths=(6, 5))"


def fill_identity(*linear: nnx.Linear) -> None:
    for layer in linear:
        layer.kernel[...] = jnp.eye(*layer.kernel.shape)


def test_counts_of_the_published_network() -> None:
    """784 x 1200 x 600 x 300 x 150 x 10, with a scale and a shift for each unit, and a bias."""
    model = abstract("mlp", (28, 28, 1), 10)
    kernels = 784 * 1200 + 1200 * 600 + 600 * 300 + 300 * 150 + 150 * 10
    assert parameters(model) == kernels + 2 * 2250 + 10
    assert averages(model) == 2 * 2250


def test_layers() -> None:
    seen, outputs = tapped(TEXT, SHAPE, 3)
    assert (seen["hidden.0"], seen["hidden.1"]) == ((2, 6), (2, 5))
    assert (outputs.logits.shape, outputs.features.shape) == ((2, 3), (2, 5))
    assert_takes_a_step(TEXT, SHAPE)


def test_logits_are_the_formula() -> None:
    model = models.create(TEXT, SHAPE, 3, nnx.Rngs(0))
    fill(model)
    model.eval()
    h = np.asarray(image(2, SHAPE), np.float64).reshape(2, -1)
    for layer, norm in zip(model.hidden, model.norms, strict=True):
        h = h @ np.float64(layer.kernel[...]) - np.float64(norm.mean[...])
        h = h / np.sqrt(np.float64(norm.var[...]) + 1e-5)
        h = np.maximum(h * np.float64(norm.scale[...]) + np.float64(norm.bias[...]), 0)
    expected = h @ np.float64(model.head.kernel[...]) + np.float64(model.head.bias[...])
    np.testing.assert_allclose(model(image(2, SHAPE)), expected, rtol=1e-5, atol=1e-5)


def test_no_class_takes_all_images_of_a_batch() -> None:
    model = models.create("mlp(widths=(6, 5), norm_logits=True)", SHAPE, 3, nnx.Rngs(0))
    logits = np.asarray(model(image(8, SHAPE)))
    np.testing.assert_allclose(logits.mean(0), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(logits.std(0), np.ones(3), atol=1e-2)
    assert regjax.flax.bind(model, head=model.head_name)(image(2, SHAPE)).features is None


def test_noise_on_each_hidden_layer_in_training_alone() -> None:
    """Of blank images only noise is left; BatchNorm makes it standard, and a ReLU cuts it."""
    model = models.create("mlp(widths=(3, 3), noise=0.5)", SHAPE, 3, nnx.Rngs(0))
    fill_identity(model.hidden[1], model.head)
    logits = np.asarray(model(np.zeros((4000, *SHAPE), np.float32)), np.float64)
    cut = (1 / (2 * np.pi)) ** 0.5, (0.5 - 1 / (2 * np.pi)) ** 0.5
    np.testing.assert_allclose(logits.mean(0), [cut[0]] * 3, atol=0.05)
    np.testing.assert_allclose(logits.std(0), [np.hypot(cut[1], 0.5)] * 3, atol=0.03)
    assert abs(np.corrcoef(logits.T) - np.eye(3)).max() < 0.06
    model.eval()
    np.testing.assert_array_equal(model(image(2, SHAPE)), model(image(2, SHAPE)))


def test_zero_head_leaves_every_class_as_likely_at_first() -> None:
    model = models.create("mlp(widths=(6, 5), zero_head=True)", SHAPE, 3, nnx.Rngs(0))
    np.testing.assert_array_equal(model(image(2, SHAPE)), np.zeros((2, 3)))
    assert np.any(models.create(TEXT, SHAPE, 3, nnx.Rngs(0))(image(2, SHAPE)))


@pytest.mark.parametrize("widths", [(), (3, 0), (2.5,)])
def test_widths_that_are_none_are_refused(widths: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"widths such as \(300, 100\)"):
        models.create(f"mlp(widths={widths!r})", SHAPE, 3, nnx.Rngs(0))
