"""ISDA's term on unlabelled images as a penalty, against its sum over classes in NumPy.

In float64; and closed forms of the bound.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward, tanh_params

import regjax as rj

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)


def params_of() -> dict[str, Any]:
    return tanh_params(dtype=jnp.float64)


def both_streams() -> rj.Batch:
    batch = random_batch(16, dtype=jnp.float64)
    return batch.replace(unlabeled=random_batch(6, seed=2, dtype=jnp.float64))


def known(matrix: np.ndarray) -> Any:
    """Statistics with these covariances `[C, A, A]`."""
    empty = rj.statistics.init(*matrix.shape[:2], dtype=jnp.float64)
    return empty._replace(covariance=empty.covariance._replace(matrix=jnp.asarray(matrix)))


def drawn(classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, a kernel, covariances."""
    rng = np.random.default_rng(classes)
    root = rng.normal(size=(classes, 4, 4))
    return rng.normal(size=(5, classes)), rng.normal(size=(4, classes)), root @ root.swapaxes(1, 2)


def bound(z: np.ndarray, kernel: np.ndarray, sigma: np.ndarray, strength: float) -> jax.Array:
    return rj.semantic.consistency_bound(
        jnp.asarray(z), known(sigma), jnp.asarray(kernel), strength=strength
    )


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_two_classes_have_a_closed_form() -> None:
    z, kernel, sigma = drawn(2)
    v = kernel[:, 0] - kernel[:, 1]
    form = 0.35 * np.einsum("a,iab,b->i", v, sigma[z.argmax(1)], v)  # lambda is 0.7
    p, apart = softmax(z), z - z[:, ::-1]
    expected = (p * np.log1p(np.exp(-apart + form[:, None]))).sum(1)
    assert_close(bound(z, kernel, sigma, 0.7), expected, jnp.float64)


def test_equal_noise_and_orthogonal_weights_move_all_others_alike() -> None:
    """With `Sigma = s I` and rows of norm rho, by `lambda s rho^2`."""
    z, _, _ = drawn(3)
    rho, s = 1.3, 0.6
    kernel = rho * np.linalg.qr(np.random.default_rng(0).normal(size=(4, 3)))[0]
    e, more = np.exp(z), np.exp(0.7 * s * rho**2)
    others = e.sum(1, keepdims=True) - e
    expected = (softmax(z) * (np.log(e + more * others) - z)).sum(1)
    found = bound(z, kernel, np.stack([s * np.eye(4)] * 3), 0.7)
    assert_close(found, expected, jnp.float64)


def test_of_a_sure_prediction_it_is_the_supervised_bound() -> None:
    """So sure that all other probabilities are 0; noise as large as the margin."""
    _, kernel, sigma = drawn(3)
    z = np.array([[900.0, 0.0, 0.0], [10.0, 910.0, 10.0]])
    forms = np.stack(
        [
            np.einsum("aj,ab,bj->j", kernel - kernel[:, [c]], sigma[c], kernel - kernel[:, [c]])
            for c in (0, 1)
        ]
    )
    strength = 2 * 890 / forms.max()
    moved = z - z.max(1, keepdims=True) + 0.5 * strength * forms
    expected = np.log(np.exp(moved).sum(1))
    assert expected.max() > 1e-5
    assert_close(bound(z, kernel, sigma, strength), expected, jnp.float64)
    spread = 0.5 * strength * rj.semantic.differences(known(sigma), jnp.asarray(kernel), jnp.eye(3))
    supervised = rj.semantic.upper_bound(jnp.asarray(z), jnp.eye(3)[:2], spread)
    assert_close(supervised, expected, jnp.float64)


def test_it_grows_with_lambda() -> None:
    z, kernel, sigma = drawn(3)
    found = np.stack([bound(z, kernel, sigma, strength) for strength in (0.0, 0.1, 0.5, 1.0, 5.0)])
    assert (np.diff(found, axis=0) > 0).all()


def test_what_moves_all_logits_alike_changes_nothing() -> None:
    """A constant of the bias, and one vector added to the weights of all classes."""
    z, kernel, sigma = drawn(3)
    expected = bound(z, kernel, sigma, 0.7)
    rng = np.random.default_rng(1)
    moved = bound(z + rng.normal(size=(5, 1)), kernel + rng.normal(size=(4, 1)), sigma, 0.7)
    assert_close(moved, expected, jnp.float64)


@pytest.mark.slow
def test_the_term_is_the_bound_with_the_labelled_statistics() -> None:
    text = "isda(strength=0.8) | semantic_consistency(weight=1)"
    loss, batch, forward = rj.parse(text), both_streams(), tanh_forward(params_of())
    result, state = loss.apply(loss.init(forward, batch), forward, batch, KEY)
    outputs, head = forward(batch.unlabeled.image), forward.head
    z, w = np.float64(outputs.logits), np.float64(head.kernel)
    sigma = np.float64(state.stages["isda"].covariance.matrix)
    for i, row in enumerate(z):
        p = np.exp(row) / np.exp(row).sum()
        value = 0.0
        for k in range(3):
            apart = w - w[:, [k]]
            form = 0.4 * np.einsum("aj,ab,bj->j", apart, sigma[row.argmax()], apart)
            value += p[k] * np.log(np.exp(row - row[k] + form).sum())
        assert_close(result.unlabeled["semantic_consistency"][i], value, jnp.float64)
    alone = rj.parse("isda(strength=0.8)")
    _, plain = alone.apply(alone.init(forward, batch), forward, batch, KEY)
    assert_same(state.stages["isda"], plain.stages["isda"])


@pytest.mark.slow
def test_strength_zero_is_the_entropy_without_a_gradient() -> None:
    loss = rj.parse("isda(strength=0.5) | semantic_consistency(weight=1, strength=0.0)")
    batch = both_streams()

    def value(params: dict) -> jax.Array:
        forward = tanh_forward(params)
        result, _ = loss.apply(loss.init(forward, batch), forward, batch, KEY)
        return result.unlabeled["semantic_consistency"].sum()

    forward = tanh_forward(params_of())
    found, slope = jax.value_and_grad(value)(forward.params)
    p = jax.nn.softmax(forward(batch.unlabeled.image).logits)
    assert_close(found, -jnp.sum(p * jnp.log(p)), jnp.float64)
    assert_close(slope, jax.tree.map(jnp.zeros_like, slope), jnp.float64)


def test_another_base_is_refused() -> None:
    loss, batch = rj.parse("cross_entropy | semantic_consistency(weight=1)"), both_streams()
    with pytest.raises(ValueError, match=r"put it on rj\.isda\(strength=\.\.\.\)"):
        loss.apply(loss.init(tanh_forward(), batch), tanh_forward(), batch, KEY)
