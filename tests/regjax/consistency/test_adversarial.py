"""Virtual adversarial training on a linear network, whose worst direction is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import CONV_SHAPE, ConvNet, assert_close, assert_same, random_batch

import regjax as rj
from regjax.consistency import adversarial

KEY = jax.random.key(1)
RNG = np.random.default_rng(0)
DIRECTIONS = [None, 1e-4]


def linear(kernel: np.ndarray) -> rj.Forward:
    return rj.from_function(lambda w, x: x @ w, jnp.asarray(kernel))


def batch_of(image: np.ndarray, classes: int) -> rj.Batch:
    image = jnp.asarray(image)
    labels = jnp.zeros((len(image), classes), image.dtype)
    return rj.Batch(image, labels.at[:, 0].set(1), unlabeled=rj.Batch(image, labels))


def values(loss: rj.Loss, forward: rj.Forward, batch: rj.Batch, key: Any = KEY) -> jax.Array:
    return loss.apply(loss.init(forward, batch), forward, batch, key)[0].unlabeled["vat"]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("xi", DIRECTIONS)
def test_two_classes_have_one_direction(xi: float | None) -> None:
    """`r = +-epsilon (w_1 - w_2) / |w_1 - w_2|` whatever the draw, and the Bernoulli divergence."""
    with jax.enable_x64(True):
        kernel, image = RNG.normal(size=(4, 2)), RNG.normal(size=(5, 4))
        loss = rj.parse(f"cross_entropy | vat(weight=1, epsilon=0.7, finite_difference={xi})")
        found = np.array(values(loss, linear(kernel), batch_of(image, 2)))
        d = kernel[:, 0] - kernel[:, 1]
        t = image @ d
        p = 1 / (1 + np.exp(-t))
        either = []
        for sign in (1, -1):
            q = 1 / (1 + np.exp(-(t + sign * 0.7 * np.linalg.norm(d))))
            either.append(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
        nearest = np.min(np.abs(found - np.array(either)), 0)
        assert np.all(nearest < (1e-10 if xi is None else 1e-6))


def moved_by(text: str, kernel: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, jax.Array]:
    """`r` of each image, as the network sees it, and the values."""
    seen: list[jax.Array] = []

    def network(w: jax.Array, x: jax.Array) -> jax.Array:
        seen.append(x)
        return x @ w

    batch = batch_of(image, kernel.shape[1])
    found = values(rj.parse(text), rj.from_function(network, jnp.asarray(kernel)), batch)
    return np.array(seen[-1]) - image, found


def test_the_direction_is_the_hessian_times_the_draw() -> None:
    """In float64: K steps from one draw follow `W (diag p - pp') W'`, and the length is epsilon."""
    with jax.enable_x64(True):
        kernel, image = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 4))
        text = "cross_entropy | vat(weight=1, epsilon=0.3, iterations={})"
        first, _ = moved_by(text.format(1), kernel, image)
        third, found = moved_by(text.format(3), kernel, image)
        p = softmax(image @ kernel)
        hessian = np.stack([kernel @ (np.diag(q) - np.outer(q, q)) @ kernel.T for q in p])
        direction = np.einsum("bij,bj->bi", hessian @ hessian, first)
        direction *= 0.3 / np.linalg.norm(direction, axis=1, keepdims=True)
        assert_close(third, direction, jnp.float64)
        q = softmax((image + third) @ kernel)
        assert_close(found, (p * np.log(p / q)).sum(-1), jnp.float64)
        assert_close(np.linalg.norm(first, axis=1), np.full(5, 0.3), jnp.float64)
        # Close by, the divergence is half the quadratic form.
        near, small = moved_by(text.format(1).replace("0.3", "1e-4"), kernel, image)
        form = np.einsum("bi,bij,bj->b", near, hessian, near) / 2
        np.testing.assert_allclose(small, form, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_length_of_the_draw_does_not_matter(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jax.enable_x64(True):
        kernel, image = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 4))
        text = "cross_entropy | vat(weight=1, epsilon=0.3)"
        drawn, found = adversarial.draws.normal, []
        for factor in (1.0, scale):
            monkeypatch.setattr(
                adversarial.draws,
                "normal",
                lambda *given, factor=factor: factor * drawn(*given).astype(jnp.float64),
            )
            found.append(moved_by(text, kernel, image)[0])
        assert_close(found[1], found[0], jnp.float64)


@pytest.mark.slow
def test_the_exact_direction_keeps_what_differences_lose_in_float32() -> None:
    kernel = RNG.normal(size=(256, 3)).astype(np.float32)
    image = RNG.normal(size=(4, 256)).astype(np.float32)
    with jax.enable_x64(True):
        text = "cross_entropy | vat(weight=1, epsilon=1.0)"
        expected, _ = moved_by(text, kernel.astype(np.float64), image.astype(np.float64))
    exact, _ = moved_by(text, kernel, image)
    rough, _ = moved_by(text.replace("1.0)", "1.0, finite_difference=1e-6)"), kernel, image)
    cosine = lambda a: np.sum(a * expected, 1) / np.linalg.norm(a, axis=1)  # noqa: E731
    assert np.all(cosine(exact) > 0.9999)
    assert np.any(cosine(rough) < 0.99)


@pytest.mark.parametrize("xi", DIRECTIONS)
def test_a_constant_network_is_not_moved(xi: float | None) -> None:
    loss = rj.parse(f"cross_entropy | vat(weight=1, epsilon=1.0, finite_difference={xi})")
    batch = batch_of(np.ones((2, 4), np.float32), 3)

    def total(kernel: jax.Array) -> jax.Array:
        return values(loss, rj.from_function(lambda w, x: x @ w, kernel), batch).sum()

    value, slope = jax.value_and_grad(total)(jnp.zeros((4, 3)))
    assert value == 0
    assert_same(slope, jnp.zeros((4, 3)))


def test_the_clean_predictions_and_the_direction_are_constants() -> None:
    with jax.enable_x64(True):
        kernel, image = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 4))
        text = "cross_entropy | vat(weight=1, epsilon=0.3)"
        r, _ = moved_by(text, kernel, image)
        p = softmax(image @ kernel)
        q = softmax((image + r) @ kernel)
        loss, batch = rj.parse(text), batch_of(image, 3)
        slope = jax.grad(
            lambda w: values(loss, rj.from_function(lambda w, x: x @ w, w), batch).sum()
        )(jnp.asarray(kernel))
        assert_close(slope, (image + r).T @ (q - p), jnp.float64)


@pytest.mark.nnx
def test_dropout_masks_are_equal_and_averages_stay() -> None:
    """At epsilon 0 nothing is apart, though masks are drawn; the batch alone moves averages."""
    from flax import nnx

    import regjax.flax

    forward = regjax.flax.bind(ConvNet(nnx.Rngs(0)), head="head")
    batch = random_batch(4, shape=CONV_SHAPE).replace(
        unlabeled=random_batch(6, seed=2, shape=CONV_SHAPE)
    )
    plain, loss = rj.parse("cross_entropy"), rj.parse("cross_entropy | vat(weight=1, epsilon=0.0)")
    expected, _ = jax.jit(plain.apply)(plain.init(forward, batch), forward, batch, KEY)
    result, _ = jax.jit(loss.apply)(loss.init(forward, batch), forward, batch, KEY)
    assert_close(result.unlabeled["vat"], jnp.zeros(6))
    assert_close(result.outputs.state, expected.outputs.state)
