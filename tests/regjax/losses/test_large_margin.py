"""The large-margin loss against angles in NumPy float64: margins, annealing, what has no angle."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from regjax.losses.large_margin import _annealed, _psi

KEY = jax.random.key(0)
W = np.array([[1.0, 0], [0, 1], [1, 1]]).T
X = np.array([[3.0, 1.0]])


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def linear(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The features are the input."""
    return x @ params["kernel"] + params["bias"][None], x


@jax.jit  # one program for each margin
def jitted(loss: rj.Loss, step: Any, params: Any, x: jax.Array, label: jax.Array) -> Any:
    def total(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        forward = rj.from_function(linear, params, head=lambda p: (p["kernel"], p["bias"]))
        batch = rj.Batch(x, label)
        state = loss.init(forward, batch)._replace(step=step)
        losses = loss.apply(state, forward, batch, KEY)[0].losses
        return losses.sum(), losses

    (kernel, x), losses = jax.grad(total, (0, 1), has_aux=True)(params, x)
    return losses, (x, kernel["kernel"])


def both(
    loss: rj.Loss, x: Any, label: Any, *, kernel: Any = W, bias: Any = 0.0, step: int = 0
) -> tuple[np.ndarray, Any]:
    """Losses, and the gradients of their sum, of at most five examples of three classes."""
    padding = ((0, 5 - len(x)), (0, 0))
    params = {"kernel": jnp.asarray(kernel), "bias": bias + jnp.zeros(3)}
    found = jitted(loss, jnp.int32(step), params, np.pad(x, padding), np.pad(label, padding))
    losses, (by_x, by_kernel) = jax.tree.map(np.asarray, found)
    return losses[: len(x)], (by_x[: len(x)], by_kernel)


def by_angle(x: np.ndarray, kernel: np.ndarray, label: np.ndarray, m: int, weight: float) -> Any:
    """Of each example, class after class, with the arc cosine and the interval that it lies in."""
    found = np.zeros(len(x))
    for i, c in np.ndindex(label.shape):
        z = x[i] @ kernel
        size = np.linalg.norm(x[i]) * np.linalg.norm(kernel[:, c])
        angle = np.arccos(np.clip(z[c] / size, -1, 1))
        k = min(int(angle * m / np.pi), m - 1)
        z[c] = (weight * z[c] + size * ((-1) ** k * np.cos(m * angle) - 2 * k)) / (1 + weight)
        found[i] += label[i, c] * (np.log(np.exp(z).sum()) - z[c])
    return found


@pytest.mark.parametrize(
    ("m", "y", "base", "logit"),
    [
        (2, 0, 0, 2.52982),
        (3, 0, 0, 1.8),
        (4, 0, 0, 0.88544),
        (2, 1, 0, -2.52982),
        (3, 1, 0, -3.72456),
        (4, 1, 0, -7.20999),
        (2, 1, 5, 0.41170),
        (3, 1, 5, 0.21257),
        (4, 1, 5, -0.36833),
    ],
)
def test_the_logit_is_the_published_one(m: int, y: int, base: float, logit: float) -> None:
    """At 18 and 72 degrees; a constant lambda, for gamma is 0."""
    z = np.array([3.0, 1.0, 4.0])
    z[y] = logit
    found, _ = both(rj.large_margin(margin=m, base=base, gamma=0), X, np.eye(3)[[y]])
    np.testing.assert_allclose(found, np.log(np.exp(z).sum()) - logit, atol=1e-5)
    if base == 0 and y == 0:
        published = {2: 1.71678, 3: 2.34893, 4: 3.20457}
        np.testing.assert_allclose(found, [published[m]], atol=1e-5)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_values_and_gradients_are_those_by_angle(m: int) -> None:
    """Of hard and soft labels; gradients by features and weights are the formula's differences."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(5, 2)), rng.normal(size=(2, 3))
    label = rng.dirichlet(np.ones(3), size=5)
    label[:3] = np.eye(3)[[0, 2, 1]]
    loss = rj.large_margin(margin=m, base=0.7, gamma=0)
    value, gradients = both(loss, x, label, kernel=kernel)
    np.testing.assert_allclose(value, by_angle(x, kernel, label, m, 0.7), rtol=1e-10)
    for which, gradient in enumerate(gradients):
        expected = np.zeros(gradient.shape)
        for entry in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [x.copy(), kernel.copy()]
                moved[which][entry] += sign * 1e-6
                ends.append(by_angle(*moved, label, m, 0.7).sum())
            expected[entry] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_the_polynomials_are_those_of_the_published_program() -> None:
    """And at both ends of the cosine finite, with the derivative of the polynomial."""
    c = np.linspace(-1, 1, 41)
    sign = np.where(c >= 0, 1, -1)
    third = np.where(np.abs(c) >= 0.5, 1, -1)
    fourth = sign * np.where(2 * c**2 - 1 >= 0, 1, -1)
    expected = {
        1: c,
        2: 2 * sign * c**2 - 1,
        3: third * (4 * c**3 - 3 * c) + sign * (1 + third) - 2,
        4: fourth * (8 * c**4 - 8 * c**2 + 1) + 2 * sign + fourth - 3,
    }
    for m, psi in expected.items():
        np.testing.assert_allclose(_psi(jnp.asarray(c), m), psi, atol=1e-12)
        _, slopes = jax.jvp(lambda c, m=m: _psi(c, m), (c,), (np.ones(41),))
        np.testing.assert_allclose(slopes[np.array([0, -1])], [m**2, m**2], rtol=1e-12)


def test_features_along_or_against_a_class_or_of_no_length_have_gradients() -> None:
    """Cosines of 1 and -1, zero features, zero weights, and lengths that underflow."""
    x = np.array([[2.0, 0], [-2, 0], [0, 0], [1e-200, 0], [1e4, 1e4]])
    label = np.eye(3)[[0, 0, 0, 0, 1]]
    for kernel in (W, 0 * W):
        found = both(rj.large_margin(margin=4, base=0.0), x, label, kernel=kernel)
        assert all(np.all(np.isfinite(each)) for each in jax.tree.leaves(found))
        np.testing.assert_allclose(found[0][2:4], np.log(3), rtol=1e-10)
    # Without an angle there is no margin: the gradient is cross entropy's.
    _, (by_x, _) = both(rj.large_margin(margin=4, base=0.0), x, label)
    np.testing.assert_allclose(by_x[2], W @ (1 / 3 - label[2]), atol=1e-10)


@pytest.mark.parametrize(
    ("gamma", "power", "step", "expected"),
    [
        (2e-5, 45, 5000, 13.719),
        (2e-5, 45, 10000, 0.2734),
        (2e-5, 45, 20000, 0.00027),
        (1e-5, 45, 5000, 111.30),
        (1e-5, 45, 10000, 13.719),
        (1e-5, 45, 20000, 0.2734),
    ],
)
def test_the_plain_logit_is_annealed(
    gamma: float, power: float, step: int, expected: float
) -> None:
    """The published program counts from 1."""
    found = _annealed(jnp.int32(step - 1), 1000.0, gamma, power, 0.0)
    np.testing.assert_allclose(found, expected, rtol=2e-2 if expected < 1e-3 else 1e-3)
    assert _annealed(jnp.int32(step), 1000.0, gamma, power, 500.0) == 500


def test_the_annealing_follows_the_steps_of_the_loss() -> None:
    loss = rj.large_margin(margin=2, base=3.0, gamma=0.5, power=2.0, minimum=0.1)
    for step in (0, 3, 10):
        weight = max(0.1, 3 * (1 + 0.5 * (step + 1)) ** -2)
        found, _ = both(loss, X, np.eye(3)[:1], step=step)
        np.testing.assert_allclose(found, by_angle(X, W, np.eye(3)[:1], 2, weight), rtol=1e-10)


def test_a_margin_of_one_and_a_large_base_are_cross_entropy() -> None:
    """With a bias, which stays in the logit."""
    bias = np.array([0.3, -1.0, 0.5])
    z = (X @ W)[0] + bias
    for loss in (rj.large_margin(margin=1, base=0), rj.large_margin(margin=4, base=1e14)):
        found, _ = both(loss, X, np.eye(3)[[2]], bias=bias)
        np.testing.assert_allclose(found, [np.log(np.exp(z).sum()) - z[2]], rtol=1e-10)


def test_networks_without_features_or_a_head_are_refused() -> None:
    loss, batch = rj.large_margin(margin=2, base=1), rj.Batch(jnp.asarray(X), jnp.eye(3)[:1])
    bare = rj.from_function(lambda p, x: x @ p, W)
    with pytest.raises(ValueError, match="last linear layer"):
        loss.init(bare, batch)
    headed = rj.from_function(lambda p, x: x @ p, W, head=lambda p: (p, None))
    state = loss.init(headed, batch)
    with pytest.raises(ValueError, match="features"):
        jax.eval_shape(lambda: loss.apply(state, headed, batch, KEY)[0].losses)
    with pytest.raises(ValueError, match="large_margin's margin must be at least 1"):
        rj.large_margin(margin=0, base=1)
