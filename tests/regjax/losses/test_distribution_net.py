"""DistributionNet against NumPy float64 with the draws at hand; the published uncertainty."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from regjax.core.batch import example_keys
from regjax.core.loss import named_key

KEY = jax.random.key(0)
PARAMS = np.random.default_rng(0).normal(size=(4, 3))


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def network(params: Any, x: jax.Array) -> Any:
    """Half of the input is the features, half the second head's output."""
    features, raw = jnp.split(x, 2, axis=-1)
    return features @ params, features, (raw,)


@jax.jit
def jitted(loss: rj.Loss, batch: rj.Batch) -> tuple[jax.Array, jax.Array]:
    def total(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        forward = rj.from_function(network, jnp.asarray(PARAMS), head=lambda p: (p, None))
        own = batch.replace(image=image)
        result, _ = loss.apply(loss.init(forward, own), forward, own, KEY)
        return result.losses.sum(), result.losses

    gradient, losses = jax.grad(total, has_aux=True)(batch.image)
    return losses, gradient


def raw_of(deviations: Any) -> np.ndarray:
    """The inverse of softplus."""
    return np.log(np.expm1(deviations))


def batch_of(features: Any, raw: Any, label: Any, index: Any = None) -> rj.Batch:
    image = jnp.concatenate([jnp.asarray(features, float), jnp.asarray(raw, float)], axis=-1)
    return rj.Batch(image, jnp.asarray(label, float), index)


def cross_entropy(z: np.ndarray, label: np.ndarray) -> np.ndarray:
    return (label * (np.log(np.exp(z).sum(-1, keepdims=True)) - z)).sum(-1)


def random_batch() -> tuple[rj.Batch, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    features, raw = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    label = rng.dirichlet(np.ones(3), size=5)
    label[:3] = np.eye(3)
    index = jnp.array([7, 3, 0, 1, 9], jnp.int32)
    return batch_of(features, raw, label, index), features, raw, label


def test_losses_and_their_gradient_by_the_deviations_are_the_formula() -> None:
    batch, features, raw, label = random_batch()
    loss = rj.distribution_net(samples=2, sampled=0.3, uncertainty=0.2, deviation=2.0)
    keys = example_keys(named_key(KEY, "distribution_net"), batch)
    noise = np.stack([np.asarray(jax.random.normal(key, (2, 4), float)) for key in keys])
    s = np.log1p(np.exp(raw))
    moved = (features[:, None] + s[:, None] * noise) @ PARAMS
    lacking = np.log(2) - np.log(s).mean(1)
    expected = cross_entropy(features @ PARAMS, label) + 0.2 * np.maximum(lacking, 0)
    expected += 0.3 * cross_entropy(moved, label[:, None]).mean(1)
    losses, gradient = jitted(loss, batch)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    p = np.exp(moved) / np.exp(moved).sum(-1, keepdims=True)
    by_s = 0.3 * (((p - label[:, None]) @ PARAMS.T) * noise).mean(1)
    by_s -= np.where(lacking > 0, 0.2, 0)[:, None] / (4 * s)
    np.testing.assert_allclose(gradient[:, 4:], by_s / (1 + np.exp(-raw)), rtol=1e-9, atol=1e-12)


def test_the_uncertainty_is_the_published_one() -> None:
    """Of deviations 1, 2, 5 and 0.5; of those above 5 there is none."""
    batch = batch_of(np.zeros((2, 4)), raw_of([[1, 2, 5, 0.5], [6, 6, 6, 6]]), np.eye(3)[:2])
    losses, _ = jitted(rj.distribution_net(sampled=0.0, uncertainty=1.0), batch)
    np.testing.assert_allclose(losses - np.log(3), [1.20708, 0], atol=1e-5)


def test_deviations_of_any_size_have_gradients() -> None:
    """Far below what a softplus can hold, too, where its logarithm is its argument."""
    raw = np.array([[-1e4] * 4, [-31, -29, -800, 0], [1e3] * 4])
    batch = batch_of(np.ones((3, 4)), raw, np.eye(3))
    losses, gradient = jitted(rj.distribution_net(sampled=0.0, uncertainty=1.0), batch)
    assert np.all(np.isfinite(gradient))
    plain = cross_entropy(np.ones((3, 4)) @ PARAMS, np.eye(3))
    expected = np.log(5) - np.array([-1e4, (-860 + np.log(np.log(2))) / 4, np.log(5)])
    np.testing.assert_allclose(losses - plain, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(gradient[0, 4:], -0.25, rtol=1e-10)


def test_draws_go_by_index() -> None:
    batch, *_ = random_batch()
    order = np.array([3, 0, 4, 1, 2])
    loss = rj.distribution_net(samples=2, sampled=0.3, uncertainty=0.2, deviation=2.0)
    losses, _ = jitted(loss, batch)
    moved, _ = jitted(loss, jax.tree.map(lambda x: x[order], batch))
    np.testing.assert_allclose(moved, np.asarray(losses)[order], rtol=1e-12)


def test_a_network_without_a_fitting_second_head_is_refused() -> None:
    batch, loss = rj.Batch(jnp.ones((2, 4)), jnp.ones((2, 3)) / 3), rj.distribution_net()
    for others, found in (((), "none"), ((jnp.ones((2, 3)),), r"\[\[2, 3\]\]")):
        forward = rj.from_function(
            lambda params, x, others=others: (x @ params, x, others),
            jnp.asarray(PARAMS),
            head=lambda params: (params, None),
        )
        state = loss.init(forward, batch)
        with pytest.raises(ValueError, match=rf"one number a feature, \[2, 4\].*have {found}"):
            jax.eval_shape(lambda f=forward, s=state: loss.apply(s, f, batch, KEY)[0].losses)
