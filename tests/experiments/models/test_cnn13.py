"""CNN-13: its counts, its layers, and both normalisations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_checks import abstract, parameters
from support import assert_close, assert_same

import regjax.flax
from experiments import models
from experiments.models.cnn13 import MeanNorm, WeightNormalized

SHAPE = (32, 32, 3)


@pytest.mark.parametrize(
    ("text", "classes", "expected"),
    [
        ("cnn13", 10, 3_121_802),
        ("cnn13", 100, 3_133_412),
        ("cnn13(weight_norm=True)", 10, 3_121_812),
        ("cnn13(weight_norm=True)", 100, 3_133_512),
    ],
)
def test_parameters(text: str, classes: int, expected: int) -> None:
    assert parameters(abstract(text, SHAPE, classes)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "cnn13(width=2)",
        pytest.param("cnn13(width=2, weight_norm=True, noise=0.1)", marks=pytest.mark.slow),
    ],
)
def test_layers_and_modes(text: str) -> None:
    """6 x 6 before the mean; dropout and noise are drawn in training only; averages move."""
    model = models.create(text, SHAPE, 4, nnx.Rngs(0))
    forward = regjax.flax.bind(model, head=model.head_name)
    shapes = {}

    def tap(layer: str, h: jax.Array) -> jax.Array:
        shapes[layer] = h.shape
        return h

    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    key, other = jax.random.split(jax.random.key(1))
    jax.eval_shape(lambda x: forward(x, key, tap=tap), x)
    assert [shapes[f"convs.{i}"] for i in (0, 5, 6, 8)] == [
        (2, 32, 32, 2),
        (2, 16, 16, 4),
        (2, 6, 6, 8),
        (2, 6, 6, 2),
    ]
    run = jax.jit(
        lambda frozen, key: (forward.frozen() if frozen else forward)(x, key), static_argnums=0
    )
    assert jnp.any(run(False, key).logits != run(False, other).logits)
    moved = zip(*map(jax.tree.leaves, (run(False, key).state, forward.state)), strict=True)
    assert all(np.any(a != b) for a, b in moved)
    traced = jax.make_jaxpr(lambda x: forward.frozen()(x).logits)(x)
    assert "random_bits" not in str(traced)  # in evaluation nothing is drawn
    evaluated = run(True, None)
    assert evaluated.logits.shape == (2, 4)
    assert (evaluated.features is None) == ("weight_norm" in text)


def test_weights_are_normalised_and_means_taken_out() -> None:
    layer = WeightNormalized(3, 5, 3, "SAME", rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 3))
    y = layer(x)
    assert_close(y.mean((0, 1, 2)), jnp.zeros(5))
    layer.direction[...] *= 7.0
    assert_close(layer(x), y)
    layer.length[...] *= 2.0
    layer.norm.bias[...] += 1.0
    assert_close(layer(x), 2 * y + 1)


def test_the_running_mean() -> None:
    norm, x = MeanNorm(2), jnp.array([[1.0, 2.0], [3.0, 6.0]])
    assert_close(norm(x), jnp.array([[-1.0, -2.0], [1.0, 2.0]]))
    assert_close(norm.mean[...], jnp.array([0.002, 0.004]))
    evaluated = nnx.view(norm, use_running_average=True)
    assert_close(evaluated(x), x - jnp.array([[0.002, 0.004]]))
    assert_same(evaluated.mean[...], norm.mean[...])
