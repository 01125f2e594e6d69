"""Covariances that are trained: their entropy, where they come from, and their bound."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import (
    CLASSES,
    FEATURES,
    apply,
    assert_close,
    assert_finite,
    random_batch,
    tanh_forward,
    tanh_params,
)

import regjax as rj

KEY = jax.random.key(0)
X64 = pytest.mark.usefixtures("x64")


def learned(factor: Any, **options: Any) -> rj.Loss:
    given = {"samples": 2, "uncertainty": 0.3, "margin": 20.0} | options
    return rj.learned_augmentation(factor=factor, **given)


@X64
def test_the_entropy_is_that_of_a_normal_distribution() -> None:
    """Its gradient by D too: `-uncertainty (D D' + 1e-6 I)^-1 D` for each example of the class."""
    params, batch = tanh_params(dtype=jnp.float64), random_batch(12, dtype=jnp.float64)
    factor = np.random.default_rng(0).normal(size=(CLASSES, FEATURES, FEATURES))
    factor[2] = 0  # of no extent
    whole = factor @ factor.swapaxes(1, 2) + 1e-6 * np.eye(FEATURES)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * whole)[1]
    assert entropy.max() < 20.0
    (with_term, _, _), (without, _, _) = (
        apply(learned(jnp.asarray(factor), uncertainty=u), params, batch, KEY) for u in (0.3, 0.0)
    )
    lacking = np.asarray(batch.label) @ (0.3 * (20 - entropy))
    assert_close(with_term - without, lacking, jnp.float64)
    (clipped, _, _) = apply(learned(jnp.asarray(factor), margin=-100.0), params, batch, KEY)
    assert_close(clipped, without, jnp.float64)

    def term(factor: jax.Array) -> jax.Array:
        losses = (apply(learned(factor, uncertainty=u), params, batch, KEY)[0] for u in (0.3, 0.0))
        return jnp.sum(next(losses) - next(losses))

    expected = -0.3 * np.sum(batch.label, 0)[:, None, None] * (np.linalg.inv(whole) @ factor)
    assert_close(jax.jit(jax.grad(term))(jnp.asarray(factor)), expected, jnp.float64)


def test_a_number_is_that_multiple_of_the_identity() -> None:
    params, batch = tanh_params(), random_batch(12)
    whole = jnp.broadcast_to(0.4 * jnp.eye(FEATURES), (CLASSES, FEATURES, FEATURES))
    assert_close(*(apply(learned(factor), params, batch, KEY) for factor in (0.4, whole)))
    with pytest.raises(ValueError, match=r"here \[3, 5, 5\], but it is \[5, 5\]"):
        learned(jnp.eye(FEATURES)).apply(
            learned(0.4).init(tanh_forward(), batch), tanh_forward(), batch, KEY
        )


def test_a_parameter_of_the_network_is_taken_by_name() -> None:
    """Its gradient is that by a factor that is given; the network itself does not use it."""
    batch, factor = random_batch(12), 0.3 * jnp.ones((CLASSES, FEATURES, FEATURES))
    given = {"samples": 2, "uncertainty": 0.3, "margin": 20.0}
    named = rj.learned_augmentation(parameter="factor", **given)

    def total(factor: jax.Array, by_name: bool) -> jax.Array:
        loss = named if by_name else learned(factor)
        forward = tanh_forward(tanh_params() | {"factor": factor})
        result, _ = loss.apply(loss.init(forward, batch), forward, batch, KEY)
        return rj.total(result, batch)

    both = jax.jit(lambda f: [jax.value_and_grad(total)(f, by_name) for by_name in (True, False)])
    assert_close(*both(factor))
    for wrong, words in (
        ({"parameter": "roots"}, r"no parameter 'roots'; its parameters are \['head.bias'"),
        ({}, "needs its covariances once"),
        ({"parameter": "second", "factor": 1.0}, "needs its covariances once"),
        ({"parameter": "second"}, r"here \[3, 5, 5\], but it is \[5, 5\]"),
    ):
        loss = rj.learned_augmentation(**given, **wrong)
        state = loss.init(tanh_forward(), batch)
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(lambda x=loss, s=state: x.apply(s, tanh_forward(), batch, KEY)[0])


def test_factors_are_learned() -> None:
    """From zero, where all is finite; parameters and factors get better together."""
    batch, optimizer = random_batch(32), optax.adam(0.05)
    trained = {"network": tanh_params(), "factor": jnp.zeros((CLASSES, FEATURES, FEATURES))}

    def objective(trained: Any, key: jax.Array) -> jax.Array:
        forward = tanh_forward(trained["network"])
        loss = learned(trained["factor"], samples=8, uncertainty=0.05, margin=5.0)
        result, _ = loss.apply(loss.init(forward, batch), forward, batch, key)
        return rj.total(result, batch)

    @jax.jit
    def train(trained: Any) -> Any:
        def step(carry: Any, key: jax.Array) -> Any:
            trained, state = carry
            value, slope = jax.value_and_grad(objective)(trained, key)
            updates, state = optimizer.update(slope, state)
            return (optax.apply_updates(trained, updates), state), (value, slope)

        carry = trained, optimizer.init(trained)
        return jax.lax.scan(step, carry, jax.random.split(KEY, 60))

    (trained, _), (values, slopes) = train(trained)
    assert_finite(slopes)
    assert values[-10:].mean() < 0.7 * values[:10].mean()
    assert_finite(trained)


# Infinitely many samples.


def bound_by_hand(factor: np.ndarray, params: Any, batch: rj.Batch) -> np.ndarray:
    """ISDA's eq. (7) with `Sigma_c = D_c D_c'`, example by example, expected over its label."""
    outputs = tanh_forward(params)(batch.image)
    kernel, z = np.float64(params["head"]["kernel"]), np.float64(outputs.logits)
    found = np.zeros(len(z))
    for i, label in enumerate(np.float64(batch.label)):
        for c in np.flatnonzero(label):
            apart = kernel - kernel[:, [c]]
            spread = np.einsum("aj,ab,bj->j", apart, factor[c] @ factor[c].T, apart)
            found[i] += label[c] * (np.logaddexp.reduce(z[i] + 0.5 * spread) - z[i, c])
    return found


@X64
def test_without_samples_it_is_the_bound() -> None:
    """Values, and derivatives by the factors, to central differences of the formula in NumPy."""
    params, batch = tanh_params(dtype=jnp.float64), random_batch(12, dtype=jnp.float64)
    rng = np.random.default_rng(1)
    factor = rng.normal(scale=0.4, size=(CLASSES, FEATURES, FEATURES))
    loss = learned(jnp.asarray(factor), samples=None, uncertainty=0.0)
    assert_close(
        apply(loss, params, batch, KEY)[0], bound_by_hand(factor, params, batch), jnp.float64
    )

    def total(factor: jax.Array) -> jax.Array:
        each = learned(factor, samples=None, uncertainty=0.0)
        return jnp.sum(apply(each, params, batch, KEY)[0])

    along = rng.normal(size=factor.shape)
    slope = jnp.sum(jax.grad(total)(jnp.asarray(factor)) * along)
    near = [bound_by_hand(factor + h * along, params, batch).sum() for h in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope, (near[0] - near[1]) / 2e-5, rtol=1e-7)


def test_the_bound_is_above_the_mean_of_many_samples() -> None:
    params, batch = tanh_params(), random_batch(12)
    mean, bound = (
        apply(learned(0.5, samples=m, uncertainty=0.0), params, batch, KEY)[0] for m in (4000, None)
    )
    assert np.all(bound > mean - 0.02)
    assert np.mean(bound) > np.mean(mean)


def test_the_bound_of_factors_of_nothing_is_cross_entropy() -> None:
    params, batch = tanh_params(), random_batch(12)
    found = apply(learned(0.0, samples=None, uncertainty=0.0), params, batch, KEY)
    plain = apply(rj.cross_entropy(), params, batch, KEY)
    assert_close(found[0], plain[0])
    assert_close(found[2], plain[2])
