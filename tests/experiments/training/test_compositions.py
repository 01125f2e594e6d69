"""Bases with state, wrappers in hidden layers and penalties, on real images with BatchNorm."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.datasets import load_digits
from support import assert_finite

import regjax as rj
import regjax.flax
from experiments import models

KEY = jax.random.key(0)
COMPOSITIONS = [
    "isda(strength=0.5) | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2,"
    " layers=('input', 'blocks.0', 'blocks.1')) | double_backprop(weight=0.01)",
    "isda(strength=0.5) | cutmix(alpha=1.0)",
    "cross_entropy | puzzlemix(alpha=1.0, blocks=4) | hessian_frobenius(weight=0.01, probes=1)",
]


@functools.cache
def standing() -> tuple[rj.Forward, rj.Batch]:
    """A residual network with BatchNorm, and 40 of scikit-learn's digits."""
    digits = load_digits()
    image = jnp.asarray(digits.images[:40, :, :, None] / 16, jnp.float32)
    label = jax.nn.one_hot(digits.target[:40], 10)
    model = models.create("thesis_resnet", (8, 8, 1), 10, nnx.Rngs(0))
    return regjax.flax.bind(model, head="head"), rj.Batch(image, label, jnp.arange(40))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, marks=() if "cutmix" in text else pytest.mark.slow)
        for text in COMPOSITIONS
    ],
)
def test_a_step_lowers_the_loss_and_all_numbers_share_a_program(text: str) -> None:
    forward, batch = standing()
    traces = []

    @jax.jit
    def value_and_step(loss: rj.Loss, params: Any, state: rj.LossState) -> Any:
        traces.append(loss)

        def objective(params: Any) -> Any:
            result, after = loss.apply(state, forward.replace(params=params), batch, KEY)
            return rj.total(result, batch), after

        (value, after), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        moved = jax.tree.map(lambda p, g: p - 3e-3 * g, params, gradient)
        return value, moved, after

    loss = rj.parse(text)
    state = loss.init(forward, batch)
    before, params, after = value_and_step(loss, forward.params, state)
    lower, *_ = value_and_step(loss, params, state)
    assert lower < before
    halved = jax.tree.map(lambda number: number / 2, loss)
    # From the statistics of the first step on, where there are any.
    assert_finite(value_and_step(halved, params, after))
    assert len(traces) == 1


def test_the_statistics_are_those_of_all_features_seen() -> None:
    forward, batch = standing()
    loss = rj.isda(strength=0.5)
    state = loss.init(forward, batch)

    @jax.jit
    def look(state: rj.LossState) -> Any:
        result, after = loss.apply(state, forward, batch, KEY)
        return result.outputs.features, after

    for _ in range(2):
        features, state = look(state)
    seen, features = state.stages["isda"], np.asarray(features, np.float64)
    for c in range(10):
        own = features[np.asarray(batch.label)[:, c] == 1]
        assert seen.seen[c] == 2 * len(own)
        expected = np.cov(own, rowvar=False, bias=True)
        np.testing.assert_allclose(seen.covariance.matrix[c], expected, atol=1e-5)
