"""BasicCNN: its count, its layers, its rates of dropout."""

import jax
import numpy as np
import pytest
from flax import nnx
from model_checks import abstract, averages, parameters, tapped

import regjax.flax as rf
from experiments import models

SHAPE = (32, 32, 3)


def test_count_sizes_and_taps() -> None:
    model = abstract("basic_cnn", SHAPE, 10)
    assert (parameters(model), averages(model)) == (1_250_858, 0)
    shapes, outputs = tapped("basic_cnn", SHAPE, 10)
    sides = [(32, 32), (30, 32), (15, 64), (13, 64)]
    assert [shapes[f"convs.{i}"] for i in range(4)] == [(2, n, n, k) for n, k in sides]
    assert shapes["hidden"] == (2, 512)
    assert outputs.features.shape == (2, 512)
    assert outputs.logits.shape == (2, 10)


@pytest.mark.slow
def test_rates_are_after_the_pools_and_the_dense_layer() -> None:
    """Of a rate near 1 next to nothing comes through: what follows is the biases, all zero."""
    x = jax.random.normal(jax.random.key(0), (2, 12, 10, 1))
    for i in range(3):
        rates = [0.0] * 3
        rates[i] = 1 - 1e-7
        model = models.create(f"basic_cnn(dropout={tuple(rates)})", (12, 10, 1), 4, nnx.Rngs(0))
        forward = rf.bind(model, head="head")
        dropped = forward(x, jax.random.key(1))
        np.testing.assert_array_equal(dropped.logits, 0)
        assert np.any(forward.frozen()(x).logits)
        assert np.all(forward.frozen()(x).features >= 0)


@pytest.mark.parametrize(
    ("text", "pixels", "message"),
    [
        ("basic_cnn", 9, "basic_cnn needs images of at least 10 x 10 pixels, but these are 9 x 9"),
        ("basic_cnn(dropout=(0.3, 0.3))", 32, r"three rates from 0.0 .* not \(0.3, 0.3\)"),
        ("basic_cnn(dropout=(0.3, 0.3, 1.0))", 32, "three rates from 0.0 to below 1.0"),
        ("basic_cnn(dropout=0.3)", 32, "dropout must be a tuple, not 0.3"),
    ],
)
def test_what_cannot_be_is_refused(text: str, pixels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create(text, (pixels, pixels, 3), 10, nnx.Rngs(0))
