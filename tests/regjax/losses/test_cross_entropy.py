"""Cross entropy and label smoothing against NumPy float64."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from regjax.losses.cross_entropy import log_complements, log_probabilities
from regjax.semantic.bounds import upper_bound

EXACT = {"rtol": 1e-10, "atol": 1e-10}
B, C, D = 6, 4, 5


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["W"] + params["b"][None]


def identity(params: Any, x: jax.Array) -> jax.Array:
    """A network whose logits are its input."""
    return x


def losses(loss: rj.Loss, fn: Any, params: Any, batch: rj.Batch) -> jax.Array:
    forward = rj.from_function(fn, params)
    return loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))[0].losses


def draw(classes: int = C) -> tuple[Any, rj.Batch]:
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(D, classes)), "b": rng.normal(size=classes)}
    label = rng.dirichlet(np.ones(classes), size=B)
    label[::2] = np.eye(classes)[rng.integers(classes, size=(B + 1) // 2)]
    return params, rj.Batch(rng.normal(size=(B, D)), label)


def probabilities(params: Any, x: np.ndarray) -> np.ndarray:
    e = np.exp(x @ params["W"] + params["b"])
    return e / e.sum(-1, keepdims=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("amount", [None, 0.0, 0.3, 1.0])
def test_values_and_gradients_are_the_closed_forms(amount: float | None, classes: int) -> None:
    """-sum y log p and x (p - y)', with the smoothed label written entry by entry."""
    params, batch = draw(classes)
    label = batch.label
    loss = rj.cross_entropy()
    if amount is not None:
        loss = rj.label_smoothing(loss, amount=amount)
        uniform = np.full((B, classes), 1 / classes)
        label = label - amount * label + amount * uniform
    p = probabilities(params, batch.image)
    np.testing.assert_allclose(
        losses(loss, linear, params, batch), -np.sum(label * np.log(p), 1), **EXACT
    )
    gradients = jax.grad(lambda params: losses(loss, linear, params, batch).mean())(params)
    np.testing.assert_allclose(gradients["W"], batch.image.T @ (p - label) / B, **EXACT)
    np.testing.assert_allclose(gradients["b"], (p - label).mean(0), **EXACT)


def test_extreme_logits_have_the_exact_loss_and_gradient() -> None:
    logits = jnp.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]])
    label = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])

    def summed(logits: jax.Array) -> jax.Array:
        return losses(rj.cross_entropy(), identity, (), rj.Batch(logits, label)).sum()

    values = losses(rj.cross_entropy(), identity, (), rj.Batch(logits, label))
    np.testing.assert_allclose(values, [0, 2e4, np.log(3)], rtol=1e-6)
    expected = [[0, 0, 0], [1, -1, 0], [1 / 3, 1 / 3, -2 / 3]]
    np.testing.assert_allclose(jax.grad(summed)(logits), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_low_precision_logits_give_float32_losses(dtype: Any) -> None:
    logits = jnp.linspace(-3, 3, 2 * C).reshape(2, C).astype(dtype)
    batch = rj.Batch(logits, jax.nn.one_hot(np.array([0, 3]), C, dtype=dtype))
    values = losses(rj.cross_entropy(), identity, (), batch)
    assert values.dtype == jnp.float32
    exact = np.asarray(logits, np.float64)
    expected = np.log(np.exp(exact).sum(1)) - exact[[0, 1], [0, 3]]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_log_probabilities_keep_the_wider_type() -> None:
    with jax.enable_x64(True):
        assert log_probabilities(np.zeros(3)).dtype == np.float64
    assert log_probabilities(jnp.zeros((2, 3), jnp.bfloat16)).dtype == np.float32


@pytest.mark.usefixtures("x64")
def test_log_complements_do_not_cancel() -> None:
    """Of a class that is all but sure, of equal ones, and of one beside classes that are masked."""
    logits = np.array([[50.0, 0, -3], [1, 1, 1], [1e4, 0, -1e4], [0, -np.inf, -np.inf]])
    found, gradient = jax.value_and_grad(lambda z: log_complements(z)[:, 0].sum())(logits)
    assert np.isfinite(found)
    assert np.all(np.isfinite(gradient))
    others = np.log1p(np.exp(-3)) - 50
    expected = [[others, 0, 0], [np.log(2 / 3)] * 3, [-1e4, 0, 0]]
    np.testing.assert_allclose(log_complements(logits)[:3], expected, rtol=1e-10, atol=1e-12)
    last = log_complements(logits)[3]
    assert last[0] < -1e29
    np.testing.assert_array_equal(last[1:], 0)


def test_dense_labels_count_where_there_are_any() -> None:
    """The mean over an example's labelled positions; smoothing leaves the others without."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(3, 2, 2, C))
    numbers = rng.integers(C, size=(3, 2, 2))
    numbers[0, 0, 0], numbers[2] = 255, 255
    label = jax.nn.one_hot(numbers, C)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for amount in (0.0, 0.3):
        smooth = (1 - amount) * np.eye(C + 1)[np.minimum(numbers, C)][..., :C] + amount / C
        each = -np.sum(smooth * log_p, -1)
        expected = [each[0].ravel()[1:].mean(), each[1].mean(), 0]
        loss = rj.label_smoothing(rj.cross_entropy(), amount=amount)
        batch = rj.Batch(jnp.asarray(logits), label)
        np.testing.assert_allclose(losses(loss, identity, (), batch), expected, rtol=1e-5)


def test_penalties_on_the_jacobian_are_for_one_label_an_image() -> None:
    batch = rj.Batch(jnp.ones((1, 2, C)), jnp.ones((1, 2, C)))
    with pytest.raises(ValueError, match=r"one label an image.*float32\[1, 2, 4\]"):
        losses(rj.frobenius(rj.cross_entropy(), weight=0.1), identity, (), batch)


@pytest.mark.parametrize("logits", [[2.0, 2.0, -np.inf], [2e38, 2e38, -2e38]])
@pytest.mark.parametrize("label", [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0]])
def test_a_masked_class_of_label_0_adds_nothing(logits: list[float], label: list[float]) -> None:
    """Of the two others each has probability 1/2: log 2 nats, and p - y for a gradient."""
    z, y = jnp.array([logits], jnp.float32), jnp.array([label], jnp.float32)
    bound = functools.partial(upper_bound, label=y, spread=jnp.zeros((3, 3)))
    for loss in (
        lambda z: losses(rj.cross_entropy(), identity, None, rj.Batch(z, y)).sum(),
        lambda z: bound(z).sum(),
        lambda z: rj.metrics.negative_log_likelihood(z, y),
    ):
        value, gradient = jax.value_and_grad(loss)(z)
        np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
        np.testing.assert_allclose(gradient[0], np.array([0.5, 0.5, 0]) - label, atol=1e-6)
