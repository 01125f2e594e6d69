"""Shake-Shake and ShakeDrop: values, derivatives of every order, laws of the draws, means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import regjax.flax as rf
from experiments import rows
from experiments.models import shakes

COUNT = 4096
RATE = 0.3


def training(function, key=0):
    """What a call yields in training: the same draws for the same key."""
    with rows.spread(jax.random.key(key), rows.every(1, 0)):
        return function()


def factors(layer, key=0, shape=(COUNT, 1)):
    """What a layer multiplies its first branch and the derivative by, read off its answers."""
    others = [jnp.zeros(shape)] if isinstance(layer, shakes.ShakeShake) else []

    def value(h):
        return training(lambda: layer(h, *others), key)

    a, pull = jax.vjp(value, jnp.ones(shape))
    return np.asarray(a), np.asarray(pull(jnp.ones(shape))[0])


def shake_shake(number=0):
    return shakes.ShakeShake(number, rngs=nnx.Rngs(0))


def shake_drop(number=0, rate=RATE, one_for_all=False):
    return shakes.ShakeDrop(number, rate, one_for_all=one_for_all, rngs=nnx.Rngs(0))


def test_a_mixture_has_one_weight_forward_and_another_backward():
    layer, shape = shake_shake(), (5, 4, 4, 3)
    h1, h2, g = (np.asarray(jax.random.normal(jax.random.key(i), shape)) for i in range(3))
    a, b = (each[:, :1, :1, :1] for each in factors(layer, shape=shape))
    value, pull = jax.vjp(lambda *h: training(lambda: layer(*h)), jnp.asarray(h1), jnp.asarray(h2))
    expected = a.astype(np.float64) * h1 + (1 - a.astype(np.float64)) * h2
    np.testing.assert_allclose(value, expected, atol=1e-6)
    first, second = pull(jnp.asarray(g))
    np.testing.assert_array_equal(first, b * g)
    np.testing.assert_array_equal(second, (1 - b) * g)


def test_derivatives_of_any_order_are_those_with_the_backward_factor():
    h, a, b = jnp.array([[0.5, -2.0]]), jnp.array([0.75]), jnp.array([0.25])

    def shaken(h):
        return jnp.sum(shakes.scaled(h, a, b) ** 3)

    def defined(h):
        return jnp.sum((jax.lax.stop_gradient((a - b)[:, None] * h) + b[:, None] * h) ** 3)

    y = 0.75 * np.array([[0.5, -2.0]])
    np.testing.assert_allclose(jax.grad(shaken)(h), 3 * y**2 * 0.25, rtol=1e-6)
    v = jnp.array([[1.0, 2.0]])
    for function in (shaken, defined):
        slope = jax.grad(function)
        _, forwards = jax.jvp(slope, (h,), (v,))
        (backwards,) = jax.vjp(slope, h)[1](v)
        for twice in (forwards, backwards):
            np.testing.assert_allclose(twice, 6 * y * 0.25**2 * np.asarray(v), rtol=1e-6)


def assert_uniform(x, low=0.0):
    """Whether draws are of U(low, 1), by their mean and variance to four standard errors."""
    wide = 1 - low
    assert low < x.min()
    assert x.max() < 1
    assert abs(x.mean() - (1 + low) / 2) < 4 * wide / np.sqrt(12 * x.size)
    assert abs(x.var() - wide**2 / 12) < 4 * wide**2 / np.sqrt(180 * x.size)


def assert_unrelated(x, y):
    assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < 4 / np.sqrt(x.size)


def test_mixtures_draw_from_all_of_0_to_1_and_backward_anew():
    a, b = factors(shake_shake())
    assert_uniform(a)
    assert_uniform(b)
    assert_unrelated(a, b)


def test_a_branch_is_scaled_with_its_probability_and_left_alone_otherwise():
    a, b = factors(shake_drop())
    scaled = a != 1
    assert abs(scaled.mean() - RATE) < 4 * np.sqrt(RATE * (1 - RATE) / COUNT)
    np.testing.assert_array_equal(b[~scaled], 1)
    assert_uniform(a[scaled], low=-1.0)
    assert_uniform(b[scaled])
    assert_unrelated(a[scaled], b[scaled])


def test_in_the_program_a_batch_is_scaled_as_a_whole_with_a_factor_for_each_image():
    layer, scaled = shake_drop(one_for_all=True), []
    draw = jax.jit(jax.vmap(lambda key: _values(layer, key)))
    for a in np.asarray(draw(jax.random.split(jax.random.key(1), 1000)))[..., 0]:
        scaled.append(np.all(a != 1))
        assert scaled[-1] or np.all(a == 1)
        assert len(np.unique(a)) == (3 if scaled[-1] else 1)
    assert abs(np.mean(scaled) - RATE) < 4 * np.sqrt(RATE * (1 - RATE) / 1000)


def _values(layer, key):
    with rows.spread(key, rows.every(1, 0)):
        return layer(jnp.ones((3, 1)))


@pytest.mark.parametrize("layer", [shake_shake, shake_drop])
def test_all_of_an_image_has_one_draw_and_images_layers_and_keys_have_others(layer):
    for index in (0, 1):
        wide = factors(layer(), shape=(64, 2, 2, 3))[index]
        assert np.all(wide == wide[:, :1, :1, :1])
        found = [wide[:, 0, 0, 0]]
        for number, key in ((1, 0), (0, 1)):
            found.append(factors(layer(number), key, shape=(64, 1))[index][:, 0])
        drawn = np.concatenate([x[x != 1] for x in found])
        assert len(np.unique(drawn)) == len(drawn) > 30


def test_in_evaluation_there_are_means_which_the_draws_have_too():
    h1, h2 = (jax.random.normal(jax.random.key(i), (COUNT, 2)) for i in range(2))
    for layer, inputs, expected in (
        (shake_shake(), (h1, h2), (h1 + h2) / 2),
        (shake_drop(), (h1,), (1 - RATE) * h1),
    ):
        ones = [jnp.full((COUNT, 1), x) for x in (2.0, -1.0)[: len(inputs)]]
        drawn = np.asarray(training(lambda layer=layer, ones=ones: layer(*ones)))
        layer.eval()
        np.testing.assert_allclose(layer(*inputs), expected, rtol=1e-6)
        mean = np.asarray(layer(*ones))[0]
        assert abs(drawn.mean() - mean) < 4 * drawn.std() / np.sqrt(COUNT)


@pytest.mark.nnx
def test_a_bound_network_draws_by_its_key_and_by_none_evaluates():
    class Shaken(nnx.Module):
        def __init__(self, rngs):
            self.shake, self.drop = shakes.ShakeShake(0, rngs=rngs), shake_drop(1, 0.5)
            self.head = nnx.Linear(2, 2, rngs=rngs)

        def __call__(self, x):
            return self.head(self.drop(self.shake(x, 2 * x)))

    forward = rf.bind(Shaken(nnx.Rngs(0)), head="head")
    x = jnp.ones((8, 2))
    first, again, other = (forward(x, jax.random.key(i)).features for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.all(first[:, 0] != other[:, 0])
    assert len(np.unique(first)) == 8
    np.testing.assert_allclose(forward(x).features, np.full((8, 2), 0.75))


def test_features_stay_of_their_type():
    h = jnp.ones((2, 3), jnp.bfloat16)
    for layer, inputs in ((shake_shake(), (h, h)), (shake_drop(), (h,))):
        for each in (layer, nnx.view(layer, deterministic=True)):
            shape = jax.eval_shape(lambda each=each, h=inputs: training(lambda: each(*h)))
            assert shape.dtype == jnp.bfloat16
