"""Noise on input and layers: its distribution, and what the thesis's 6.1 says of it."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from sklearn.datasets import load_digits

import regjax as rj

C, D = 4, 5
KEYS = 4000


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def identity(params: Any, x: jax.Array) -> jax.Array:
    """A network whose logits are its input."""
    return x.reshape(len(x), -1)


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["W"] + params["b"][None]


def relu_mlp(params: Any, x: jax.Array) -> jax.Array:
    h = jax.nn.relu(x @ params["A"] + params["a"][None])
    return h @ params["W"] + params["b"][None]


def tanh_mlp(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["A"] + params["a"][None]) @ params["W"] + params["b"][None]


def apply(loss: rj.Loss, fn: Any, params: Any, batch: rj.Batch, key: jax.Array) -> rj.Result:
    forward = rj.from_function(fn, params)
    return loss.apply(loss.init(forward, batch), forward, batch, key)[0]


# The draw.


def noise(shape: tuple[int, ...], seed: int = 0, **fields: Any) -> np.ndarray:
    """What noise_injection adds to images of 0.5, in standard deviations."""
    image = jnp.full(shape, 0.5)
    label = jnp.full((shape[0], image[0].size), 1 / image[0].size)
    loss = rj.noise_injection(rj.cross_entropy(), sigma=0.2)
    batch = rj.Batch(image, label, **fields)
    noisy = apply(loss, identity, (), batch, jax.random.key(seed)).outputs.logits
    return (np.asarray(noisy, np.float64) - 0.5).reshape(shape) / 0.2


def test_the_noise_is_standard_normal() -> None:
    drawn = noise((200, 10, 10)).ravel()
    n = drawn.size
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert abs(drawn.mean()) < 4 / np.sqrt(n)
    assert abs(drawn.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs((drawn**4).mean() - 3) < 4 * np.sqrt(96 / n)


def test_pixels_examples_and_keys_are_independent() -> None:
    first, second = noise((400, 12)), noise((400, 12), seed=1)
    columns = np.hstack([first, second])  # as variables: 12 pixels under one key, 12 under another
    pixels = np.corrcoef(columns.T)[np.triu_indices(24, 1)]
    examples = np.corrcoef(first)[np.triu_indices(400, 1)]
    assert np.abs(pixels).max() < 4.5 / np.sqrt(400)
    # Of 79,800 pairs: the correlation of 12 independent normals has variance 1 / 11.
    np.testing.assert_allclose(examples.var(), 1 / 11, rtol=0.05)
    np.testing.assert_allclose(examples.mean(), 0, atol=0.01)


@pytest.mark.slow
def test_each_example_draws_by_its_index_wherever_it_stands() -> None:
    index = np.array([7, 3, 0, 5])
    drawn = noise((4, 6), index=jnp.array(index))
    np.testing.assert_array_equal(drawn, noise((8, 6))[index])
    np.testing.assert_array_equal(drawn[1:2], noise((1, 6), index=jnp.array([3])))
    same = noise((2, 6), index=jnp.array([3, 3]))
    np.testing.assert_array_equal(same[0], same[1])


def test_two_noises_draw_apart() -> None:
    """Their variances add; one draw used twice would double the deviation."""
    loss = rj.noise_injection(rj.noise_injection(rj.cross_entropy(), sigma=0.3), sigma=0.4)
    batch = rj.Batch(jnp.zeros((50, 200)), jnp.full((50, 200), 1 / 200))
    drawn = apply(loss, identity, (), batch, jax.random.key(0)).outputs.logits
    np.testing.assert_allclose(drawn.std(), 0.5, rtol=0.03)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_image_keeps_its_type(dtype: Any) -> None:
    batch = rj.Batch(jnp.zeros((2, C), dtype), jnp.full((2, C), 1 / C))
    for sigma in (0.1, jnp.float32(0.1)):
        loss = rj.noise_injection(rj.cross_entropy(), sigma=sigma)
        noisy = apply(loss, identity, (), batch, jax.random.key(0)).outputs.logits
        assert noisy.dtype == dtype


# Noise in layers.


def chain(params: Any, x: jax.Array, tap: Any) -> jax.Array:
    """Returns its input and what two layers made of it, which add 1 each."""
    first = tap("first", x + 1)
    second = tap("second", first + 1)
    return jnp.concatenate([x, first, second], axis=1)


def through(layers: tuple[str, ...], add: float, multiply: float) -> np.ndarray:
    """What the layers change, `[3, B, D]`: in the input, in the first, in the second."""
    size, width = 40, 500
    batch = rj.Batch(jnp.ones((size, width)), jnp.full((size, 3 * width), 1 / width))
    forward = rj.from_function(chain, None, layers=("first", "second"))
    loss = rj.feature_noise(rj.cross_entropy(), add=add, multiply=multiply, layers=layers)
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
    out = np.asarray(result.outputs.logits, np.float64).reshape(size, 3, width)
    before = np.stack([np.ones((size, width)), out[:, 0] + 1, out[:, 1] + 1])
    return out.transpose(1, 0, 2) / before if multiply else out.transpose(1, 0, 2) - before


def test_noise_in_every_layer_named_and_in_no_other() -> None:
    added = through(("input", "second"), 0.5, 0.0) / 0.5
    factor = (through(("first", "second"), 0.0, 0.2) - 1) / 0.2
    for drawn, silent, law in ((added, 1, stats.norm), (factor, 0, stats.uniform(-1, 2))):
        assert np.abs(drawn[silent]).max() < 1e-5
        noisy = [drawn[i].ravel() for i in range(3) if i != silent]
        assert all(stats.kstest(each, law.cdf).pvalue > 1e-3 for each in noisy)
        assert abs(np.corrcoef(*noisy)[0, 1]) < 4 / np.sqrt(len(noisy[0]))


def test_a_layers_noise_does_not_depend_on_the_others() -> None:
    alone, together = through(("second",), 0.5, 0.0), through(("second", "input"), 0.5, 0.0)
    np.testing.assert_allclose(alone[2], together[2], atol=1e-6)


# What it does to the loss, on average.


def draw() -> tuple[Any, rj.Batch]:
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(D, C)), "b": rng.normal(size=C)}
    return params, rj.Batch(rng.normal(size=(3, D)), rng.dirichlet(np.ones(C), size=3))


def gains(fn: Any, params: Any, batch: rj.Batch, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Noisy minus plain loss under draws e and under their opposites -e: each [KEYS, B]."""
    plain = apply(rj.cross_entropy(), fn, params, batch, jax.random.key(0)).losses

    def one(key: jax.Array, signed: jax.Array) -> jax.Array:
        loss = rj.noise_injection(rj.cross_entropy(), sigma=signed)
        return apply(loss, fn, params, batch, key).losses - plain

    keys = jax.random.split(jax.random.key(1), KEYS)
    # Traced, since a number that can be looked at must not be negative.
    both = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None), 1))
    up, down = both(keys, jnp.array([sigma, -sigma]))
    return np.asarray(up), np.asarray(down)


def assert_mean(drawn: np.ndarray, expected: np.ndarray) -> None:
    """The mean over the draws is the expected one, which they resolve to 5%."""
    error = drawn.std(0, ddof=1) / np.sqrt(len(drawn))
    assert (error < 0.05 * np.abs(expected)).all()
    z = (drawn.mean(0) - expected) / error
    assert np.abs(z).max() < 3.5


def by_hand(params: Any, batch: rj.Batch) -> tuple[np.ndarray, np.ndarray]:
    """Tr(J' H J) and ||grad L||^2 of a linear-softmax model, example by example."""
    traces, norms = [], []
    for x, y in zip(batch.image, batch.label, strict=True):
        e = np.exp(x @ params["W"] + params["b"])
        p = e / e.sum()
        h = np.diag(p) - np.outer(p, p)
        traces.append(np.trace(params["W"] @ h @ params["W"].T))
        norms.append(np.sum((params["W"] @ (p - y)) ** 2))
    return np.array(traces), np.array(norms)


@pytest.mark.usefixtures("x64")
def test_the_expected_gain_is_half_the_scaled_trace_of_a_linear_model() -> None:
    """Eq. (62), exact to the fourth order here; opposite draws cancel the odd orders."""
    params, batch = draw()
    sigma = 0.02
    up, down = gains(linear, params, batch, sigma)
    trace, _ = by_hand(params, batch)
    assert_mean((up + down) / 2, sigma**2 / 2 * trace)


@pytest.mark.usefixtures("x64")
def test_the_expected_squared_change_is_the_squared_gradient() -> None:
    """After eq. (58): E[Delta^2] = sigma^2 ||grad L||^2, the double-backprop term."""
    params, batch = draw()
    sigma = 1e-4
    up, _ = gains(linear, params, batch, sigma)
    _, norm = by_hand(params, batch)
    assert_mean(up**2, sigma**2 * norm)


@pytest.fixture(scope="module")
def digits() -> rj.Batch:
    image, label = load_digits(return_X_y=True)
    image = image.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
    return rj.Batch(image, np.eye(10)[label])


def trained(fn: Any, digits: rj.Batch) -> Any:
    """A small network after 200 steps of Adam on all digits."""
    rng = np.random.default_rng(0)
    params = {"A": rng.normal(size=(16, 12)) / 3, "a": np.zeros(12)}
    params |= {"W": rng.normal(size=(12, 10)) / 3, "b": np.zeros(10)}
    optimizer = optax.adam(0.03)

    def mean_loss(params: Any) -> jax.Array:
        return apply(rj.cross_entropy(), fn, params, digits, jax.random.key(0)).losses.mean()

    def step(carry: Any, _: Any) -> tuple[Any, jax.Array]:
        params, state = carry
        value, slope = jax.value_and_grad(mean_loss)(params)
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(params, updates), state), value

    params = jax.tree.map(jnp.asarray, params)
    run = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=200))
    (params, _), history = run(params)
    assert history[-1] < 0.3
    return params


def measured(fn: Any, params: Any, batch: rj.Batch) -> tuple[jax.Array, jax.Array]:
    logits, vjp = jax.vjp(lambda x: fn(params, x), batch.image)
    root = rj.traces.hessian_root(logits)
    size, classes = logits.shape
    trace = rj.traces.exact_trace(lambda c: vjp(c)[0], root, classes, size)
    loss = rj.double_backprop(rj.cross_entropy(), weight=1.0)
    penalties = apply(loss, fn, params, batch, jax.random.key(0)).penalties
    return trace, penalties["double_backprop"]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_penalties_predict_the_noise_in_a_trained_relu_network(digits: rj.Batch) -> None:
    """Between its kinks such a network is linear, as eq. (59) takes it to be."""
    params = trained(relu_mlp, digits)
    batch = jax.tree.map(lambda a: jnp.asarray(a[:20]), digits)
    # No kink within six standard deviations of the noise, nor hardly any loss to measure.
    kernel, bias = np.asarray(params["A"]), np.asarray(params["a"])
    reach = np.abs(np.asarray(batch.image) @ kernel + bias) / np.linalg.norm(kernel, axis=0)
    plain = apply(rj.cross_entropy(), relu_mlp, params, batch, jax.random.key(0)).losses
    sigma = 1e-3
    kept = np.flatnonzero((reach.min(1) > 6 * sigma) & (plain > 1e-3))
    assert len(kept) >= 4
    batch = jax.tree.map(lambda a: a[kept], batch)
    trace, norm = measured(relu_mlp, params, batch)
    up, down = gains(relu_mlp, params, batch, sigma)
    assert_mean((up + down) / 2, sigma**2 / 2 * np.asarray(trace))
    assert_mean(((up - down) / 2) ** 2, sigma**2 * np.asarray(norm))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_smooth_network_adds_its_own_curvature(digits: rj.Batch) -> None:
    """The gain is sigma^2 / 2 (Tr(J' H J) + sum_c (p - y)_c Laplacian g_c), beyond eq. (59)."""
    params = trained(tanh_mlp, digits)
    batch = jax.tree.map(lambda a: jnp.asarray(a[5:9]), digits)
    sigma = 1e-3

    def curvature(x: jax.Array, y: jax.Array) -> jax.Array:
        laplacian = jnp.trace(jax.hessian(lambda x: tanh_mlp(params, x[None])[0])(x), 0, 1, 2)
        return (jax.nn.softmax(tanh_mlp(params, x[None])[0]) - y) @ laplacian

    missing = np.asarray(jax.vmap(curvature)(batch.image, batch.label))
    trace, _ = measured(tanh_mlp, params, batch)
    up, down = gains(tanh_mlp, params, batch, sigma)
    assert_mean((up + down) / 2, sigma**2 / 2 * (np.asarray(trace) + missing))
