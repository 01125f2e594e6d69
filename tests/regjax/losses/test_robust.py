"""The focal and the L_q loss against NumPy float64, by value and by gradient."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import regjax as rj

EXACT = {"rtol": 1e-9, "atol": 1e-12}
Z = np.array([2.0, 1.0, -1.0])


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@jax.jit  # one program for all numbers of a loss
def jitted(loss: rj.Loss, logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    def total(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        forward, batch = rj.from_function(lambda params, x: x, ()), rj.Batch(logits, label)
        state = loss.init(forward, batch)
        losses = loss.apply(state, forward, batch, jax.random.key(0))[0].losses
        return losses.sum(), losses

    gradient, losses = jax.grad(total, has_aux=True)(logits)
    return losses, gradient


def both(text: str, logits: Any, label: Any) -> tuple[np.ndarray, np.ndarray]:
    """Losses and their gradients by the logits, of at most six examples of three classes."""
    padding = ((0, 6 - len(logits)), (0, 0))
    found = jitted(rj.parse(text), np.pad(logits, padding), np.pad(label, padding))
    losses, gradient = (np.asarray(x)[: len(logits)] for x in found)
    return losses, gradient


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("focal(gamma=1, alpha=0.5)", 0.051412),
        ("focal(gamma=2)", 0.030294),
        ("focal(gamma=0)", 0.349012),
        ("generalized_cross_entropy(q=0.4)", 0.325746),
        ("generalized_cross_entropy(q=0.7)", 0.309649),
        ("generalized_cross_entropy(q=0)", 0.349012),
        ("generalized_cross_entropy(q=1)", 1 - 0.705385),
        ("generalized_cross_entropy(q=0.4, truncation=0.5)", 0.325746),
        ("generalized_cross_entropy(q=0.4, truncation=0.8)", (1 - 0.8**0.4) / 0.4),
    ],
)
def test_values_are_the_published_formulas(text: str, expected: float) -> None:
    found, _ = both(text, Z[None], np.eye(3)[:1])
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_below_the_threshold_the_loss_is_constant() -> None:
    """Of two classes, of probability 0.71 and 0.26."""
    text = "generalized_cross_entropy(q=0.4, truncation=0.5)"
    found, gradient = both(text, np.stack([Z, Z]), np.eye(3)[:2])
    np.testing.assert_allclose(found[1], 0.605354, atol=1e-6)
    assert np.any(gradient[0] != 0)
    np.testing.assert_array_equal(gradient[1], 0)


def random_examples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = rng.dirichlet(np.ones(3), size=6)
    label[::2] = np.eye(3)[[0, 2, 1]]
    return 2 * rng.normal(size=(6, 3)), label


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_and_its_gradient_are_the_closed_forms(gamma: float) -> None:
    """Of soft labels the expectation, class by class."""
    z, label = random_examples()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    value, gradient = np.zeros(6), np.zeros((6, 3))
    for c in range(3):
        own = p[:, c]
        slope = (1 - own) ** gamma - gamma * own * (1 - own) ** (gamma - 1) * np.log(own)
        value += label[:, c] * -0.5 * (1 - own) ** gamma * np.log(own)
        gradient += 0.5 * (label[:, c] * slope)[:, None] * (p - np.eye(3)[c])
    text = f"focal(gamma={gamma}, alpha=0.5)"
    for found, expected in zip(both(text, z, label), (value, gradient), strict=True):
        np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize(("q", "truncation"), [(0.4, 0.0), (0.7, 0.3), (1.0, 0.2)])
def test_generalized_and_its_gradient_are_the_closed_forms(q: float, truncation: float) -> None:
    z, label = random_examples()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    terms = (1 - np.maximum(p, truncation) ** q) / q
    counts = label * np.where(p > truncation, p**q, 0)
    gradient = counts.sum(1, keepdims=True) * p - counts
    text = f"generalized_cross_entropy(q={q}, truncation={truncation})"
    value = (label * terms).sum(1)
    for found, expected in zip(both(text, z, label), (value, gradient), strict=True):
        np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize("text", ["focal(gamma=0.5)", "generalized_cross_entropy(q=0.3)"])
def test_a_sure_network_has_a_finite_gradient(text: str) -> None:
    """Right and wrong by 1e4, where `(1 - p)^(1/2)` alone has an infinite one; and masked."""
    logits = np.array([[1e4, 0, -1e4], [1e4, 0, -1e4], [0.0, 0, 0], [1.0, -np.inf, -np.inf]])
    label = np.eye(3)[[0, 2, 1, 0]]
    losses, gradient = both(text, logits, label)
    assert np.all(np.isfinite(losses))
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(losses[[0, 3]], 0)


@pytest.mark.parametrize("text", ["focal(gamma=1.5)", "generalized_cross_entropy(q=0.5)"])
def test_positions_are_averaged_over_those_with_a_label(text: str) -> None:
    z, label = random_examples()
    each = both(text, z, label)[0].reshape(3, 2)
    dense = label.reshape(3, 2, 3)
    dense[0, 0] = 0
    found, _ = jitted(rj.parse(text), z.reshape(3, 2, 3), dense)
    np.testing.assert_allclose(found, [each[0, 1], each[1].mean(), each[2].mean()], **EXACT)


@pytest.mark.parametrize(
    "text", ["focal(gamma=1)", "generalized_cross_entropy(q=0.7, truncation=0.3)"]
)
def test_logits_that_are_not_numbers_are_not_hidden(text: str) -> None:
    logits = np.array([[np.nan, 0.0], [0.0, np.nan]])
    losses, _ = jitted(rj.parse(text), logits, np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert np.isnan(losses).all()
