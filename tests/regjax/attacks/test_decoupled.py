"""The smallest change of a linear network, and images that mislead in exact arithmetic too.

Covers `nearest.py` too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_same

import regjax as rj
from regjax import attacks

SIZE, SHAPE = 12, (4, 2, 1)


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1) @ params["kernel"] + params["bias"]


def drawn(scale: float) -> tuple[dict[str, jax.Array], rj.Batch]:
    kernel = np.random.default_rng(5).normal(size=(8, 2)) * scale
    params = {"kernel": kernel, "bias": -0.5 * kernel.sum(0, keepdims=True)}
    params = {name: jnp.asarray(a, jnp.float32) for name, a in params.items()}
    image = jnp.asarray(np.random.default_rng(6).uniform(0.35, 0.65, (SIZE, *SHAPE)), jnp.float32)
    return params, rj.Batch(image, jnp.eye(2)[jnp.argmax(linear(params, image), -1)])


@jax.jit
def ddn(params: Any, batch: rj.Batch) -> tuple[jax.Array, jax.Array]:
    return attacks.ddn(rj.from_function(linear, params), batch)


@jax.jit
def cw(params: Any, batch: rj.Batch) -> tuple[jax.Array, jax.Array]:
    return attacks.cw_l2(rj.from_function(linear, params), batch, steps=100, search_steps=5)


@pytest.mark.parametrize("attack", [ddn, cw])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_the_distance_of_a_linear_network(attack: Any, scale: float) -> None:
    params, batch = drawn(scale)
    image, success = attack(params, batch)
    assert jnp.all(success)
    kernel, bias = (np.asarray(params[n], np.float64) for n in ("kernel", "bias"))
    clean, found = (np.asarray(a, np.float64).reshape(SIZE, -1) for a in (batch.image, image))
    slope = kernel[:, 1] - kernel[:, 0]
    expected = np.abs(clean @ slope + bias[0, 1] - bias[0, 0]) / np.linalg.norm(slope)
    distance = np.linalg.norm(found - clean, axis=1)
    np.testing.assert_allclose(distance, expected, rtol=3e-2, atol=2e-4)
    assert np.all(distance > expected)
    # By itself, and in float64, each is classified wrong by more than rounding.
    true = np.argmax(batch.label, -1)
    logits = found @ kernel + bias
    margin = np.where(true == 0, 1, -1) * (logits[:, 1] - logits[:, 0])
    assert np.all(margin > 5e-6 * np.abs(logits).max(-1))


def test_what_is_wrong_already_or_out_of_reach_is_returned_as_it_is() -> None:
    params, batch = drawn(1.0)
    wrong = batch.replace(label=batch.label.at[:5].set(1 - batch.label[:5]))
    image, success = ddn(params, wrong)
    assert_same(image[:5], batch.image[:5])
    assert jnp.all(success)
    constant = params | {"bias": jnp.asarray([[1e3, 0.0]])}
    first = batch.replace(label=jnp.eye(2)[jnp.zeros(SIZE, int)])
    image, success = ddn(constant, first)
    assert_same(image, batch.image)
    assert not jnp.any(success)


def test_the_range_is_the_unit() -> None:
    params, batch = drawn(1.0)
    image, _ = ddn(params, batch)
    of_bytes = rj.from_function(lambda p, x: linear(p, x / 255), params)
    in_bytes = batch.replace(image=255 * batch.image)
    large, _ = jax.jit(lambda b: attacks.ddn(of_bytes, b, high=255.0))(in_bytes)
    np.testing.assert_allclose(large / 255, image, atol=5e-3)


def test_mistakes() -> None:
    params, batch = drawn(1.0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        attacks.ddn(rj.from_function(linear, params), batch, steps=0)
