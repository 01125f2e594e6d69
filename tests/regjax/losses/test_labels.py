"""Wrappers that change labels: how smoothing composes, which labels are drawn anew.

The values and gradients of smoothed labels are in `test_cross_entropy.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import regjax as rj

C = 4


def identity(params: Any, x: jax.Array) -> jax.Array:
    """A network whose logits are its input."""
    return x


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["W"] + params["b"][None]


def test_smoothing_composes_as_the_wrappers_nest() -> None:
    """The outer one first: twice a share of one half leaves a quarter of the label."""
    loss = rj.label_smoothing(rj.label_smoothing(rj.cross_entropy(), amount=0.5), amount=0.5)
    logits = jnp.array([[2.0, 0.0]])
    forward = rj.from_function(identity, ())
    batch = rj.Batch(logits, jnp.array([[1.0, 0.0]]))
    values = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))[0].losses
    label = np.array([0.25 + 0.375, 0.375])
    expected = -label @ (np.array([2.0, 0.0]) - np.log(np.exp(2) + 1))
    np.testing.assert_allclose(values, [expected], rtol=1e-6)


@pytest.mark.parametrize(("amount", "expected"), [(0.1, 0.482346), (0.1 * 3 / 2, 0.549012)])
def test_smoothing_is_over_all_classes(amount: float, expected: float) -> None:
    """To give a share to the C - 1 others alone is to smooth by C / (C - 1) of it."""
    logits, loss = (
        jnp.array([[2.0, 1.0, -1.0]]),
        rj.label_smoothing(rj.cross_entropy(), amount=amount),
    )
    forward, batch = rj.from_function(identity, ()), rj.Batch(logits, jnp.eye(3)[:1])
    found = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))[0].losses
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_smoothing_acts_on_the_labels_that_penalties_see() -> None:
    params = {"W": jnp.eye(2), "b": jnp.zeros(2)}
    forward = rj.from_function(linear, params)
    batch = rj.Batch(jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]]))
    loss = rj.label_smoothing(rj.cross_entropy(), amount=0.5)
    loss = rj.double_backprop(loss, weight=1.0)
    result = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))[0]
    np.testing.assert_allclose(result.penalties["double_backprop"], [2 * 0.25**2], rtol=1e-6)


WEIGHTS = (0.5, 2.0, 1.25)


def weighted(
    expression: str, label: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, rj.Result, np.ndarray]:
    """The total under an expression, and log probabilities in NumPy."""
    logits = np.random.default_rng(1).normal(size=label.shape)
    forward = rj.from_function(
        lambda params, x: (x @ params, x, (x,)), jnp.eye(3), head=lambda params: (params, None)
    )
    batch = rj.Batch(jnp.asarray(logits), jnp.asarray(label, float), weight=weight)
    loss = rj.parse(expression)
    result = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))[0]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(rj.total(result, batch)), result, log_p


LINEAR = {
    "cross_entropy": lambda log_p: -log_p,
    "isda(strength=0.0)": lambda log_p: -log_p,
    "focal(gamma=2.0)": lambda log_p: -((1 - np.exp(log_p)) ** 2) * log_p,
    "generalized_cross_entropy(q=0.5)": lambda log_p: (1 - np.exp(log_p) ** 0.5) / 0.5,
    "large_margin(margin=1, base=0.0)": lambda log_p: -log_p,
    "distribution_net(sampled=0.0, uncertainty=0.0)": lambda log_p: -log_p,
}


@pytest.mark.parametrize("base", LINEAR)
def test_classes_count_by_their_weights_whatever_an_examples_label_is(base: str) -> None:
    """Hard and mixed labels, and one example of weight 0 and one without a label."""
    label = np.array([[1, 0, 0], [0, 0.3, 0.7], [0.5, 0.5, 0], [0, 0, 1], [0, 0, 0.0]])
    weight = np.array([1.0, 2.0, 1.0, 0.0, 1.0])
    found, result, log_p = weighted(f"{base} | class_weights(weights={WEIGHTS})", label, weight)
    counts = weight[:, None] * label * np.asarray(WEIGHTS)
    expected = (counts * LINEAR[base](log_p)).sum() / counts.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(result.metrics[base.partition("(")[0]], found, rtol=1e-6)


def test_weights_see_what_wrappers_make_of_labels() -> None:
    label = np.eye(3)[[0, 1, 2, 2]]
    inner = f"cross_entropy | class_weights(weights={WEIGHTS})"
    found, _, log_p = weighted(f"{inner} | label_smoothing(amount=0.3) | l2(weight=1.0)", label)
    counts = (0.7 * label + 0.1) * np.asarray(WEIGHTS)
    np.testing.assert_allclose(found - 3.0, -(counts * log_p).sum() / counts.sum(), rtol=1e-6)


def test_penalties_stay_means_over_the_images() -> None:
    label, weight = np.eye(3)[[0, 1, 2, 2]], np.array([1.0, 2.0, 1.0, 0.5])
    expression = f"cross_entropy | class_weights(weights={WEIGHTS}) | jacobian(weight=1.0)"
    _, result, log_p = weighted(expression, label, weight)
    p = np.exp(log_p)
    jacobian = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None]
    expected = weight @ (jacobian**2).sum((1, 2)) / weight.sum()
    np.testing.assert_allclose(result.penalties["jacobian"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("cross_entropy | class_weights(weights=(1.0, 2.0))", "needs 3 weights.*(1.0, 2.0)"),
        ("cross_entropy | class_weights(weights=(1.0, 2.0, -1.0))", "at least 0"),
        ("cross_entropy | class_weights(weights=(0, 0, 0))", "not all 0"),
        (
            "cross_entropy | mixup(alpha=1.0) | class_weights(weights=(1.0, 2.0, 1.0))",
            "put class_weights next to the base",
        ),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(expression: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        weighted(expression, np.eye(3))


def relabelled(label: jax.Array, rate: float, seed: int = 0, **fields: Any) -> np.ndarray:
    batch = rj.Batch(jnp.zeros((len(label), 1)), label, **fields)
    key = jax.random.key(seed)
    return np.asarray(rj.disturb_label.definition.function(None, batch, key, rate=rate)[1].label)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_share_of_the_labels_is_drawn_from_all_classes(rate: float) -> None:
    n = 8000
    label = np.eye(C, dtype=np.float32)[np.arange(n) % C]
    drawn = relabelled(jnp.asarray(label), rate)
    assert ((drawn == 0) | (drawn == 1)).all()
    assert (drawn.sum(1) == 1).all()
    for true in range(C):
        counts = drawn[true::C].sum(0)
        expected = np.full(C, rate / C) + (1 - rate) * (np.arange(C) == true)
        if rate == 0:
            np.testing.assert_array_equal(drawn, label)
        else:
            assert stats.chisquare(counts, expected * n / C).pvalue > 1e-3


def test_in_the_mean_over_draws_disturbed_labels_are_smoothed_ones() -> None:
    """Soft labels too, within four standard errors in every class; alike in every other way."""
    n, rate = 20_000, 0.3
    for row in ([0.0, 1, 0, 0], [0.5, 0.3, 0.2, 0]):
        label = jnp.tile(jnp.array(row), (n, 1))
        batch = rj.Batch(jnp.zeros((n, 1)), label[:1])
        smoothed = rj.label_smoothing.definition.function(None, batch, amount=rate)[1].label[0]
        drawn = relabelled(label, rate)
        errors = drawn.std(0) / np.sqrt(n)
        assert np.all(np.abs(drawn.mean(0) - smoothed) < 4 * errors)


def test_labels_are_drawn_by_index_and_left_alone_otherwise() -> None:
    soft = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(C), 8), jnp.bfloat16)
    drawn = relabelled(soft, 0.5)
    assert drawn.dtype == jnp.bfloat16
    replaced = (drawn == 1).any(1)
    assert 0 < replaced.sum() < 8
    np.testing.assert_array_equal(drawn[~replaced], np.asarray(soft)[~replaced])
    index = np.array([6, 1, 3])
    some = relabelled(soft[index], 0.5, index=jnp.asarray(index))
    np.testing.assert_array_equal(some, drawn[index])
