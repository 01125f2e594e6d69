"""ISDA's term on unlabelled images as a penalty, against its sum over classes in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward

import regjax as rj

KEY = jax.random.key(0)


def both_streams() -> rj.Batch:
    return random_batch(16).replace(unlabeled=random_batch(6, seed=2))


def test_the_term_is_the_bound_with_the_labelled_statistics() -> None:
    text = "isda(strength=0.8) | semantic_consistency(weight=1)"
    loss, batch, forward = rj.parse(text), both_streams(), tanh_forward()
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
        assert_close(result.unlabeled["semantic_consistency"][i], np.float32(value))
    alone = rj.parse("isda(strength=0.8)")
    _, plain = alone.apply(alone.init(forward, batch), forward, batch, KEY)
    assert_same(state.stages["isda"], plain.stages["isda"])


def test_strength_zero_is_the_entropy_without_a_gradient() -> None:
    loss = rj.parse("isda(strength=0.5) | semantic_consistency(weight=1, strength=0.0)")
    batch = both_streams()

    def value(params: dict) -> jax.Array:
        forward = tanh_forward(params)
        result, _ = loss.apply(loss.init(forward, batch), forward, batch, KEY)
        return result.unlabeled["semantic_consistency"].sum()

    forward = tanh_forward()
    found, slope = jax.value_and_grad(value)(forward.params)
    p = jax.nn.softmax(forward(batch.unlabeled.image).logits)
    assert_close(found, -jnp.sum(p * jnp.log(p)))
    assert_close(slope, jax.tree.map(jnp.zeros_like, slope))


def test_another_base_is_refused() -> None:
    loss, batch = rj.parse("cross_entropy | semantic_consistency(weight=1)"), both_streams()
    with pytest.raises(ValueError, match=r"put it on rj\.isda\(strength=\.\.\.\)"):
        loss.apply(loss.init(tanh_forward(), batch), tanh_forward(), batch, KEY)
