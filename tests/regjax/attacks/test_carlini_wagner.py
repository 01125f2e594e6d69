"""The attack finds the nearest point of the wrong classes, known for linear networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from support import assert_close, assert_same, tanh_forward

import regjax as rj
from regjax.attacks import cw_l2

SIZE, SHAPE = 12, (4, 2, 1)


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1) @ params["kernel"] + params["bias"]


def linear_params(scale: float = 1.0) -> dict[str, jax.Array]:
    kernel = np.random.default_rng(5).normal(size=(8, 2)) * scale
    bias = -0.5 * kernel.sum(0, keepdims=True)  # the classes meet in the middle of the box
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}


def predicted(forward: rj.Forward, low: float = -0.2, high: float = 1.2) -> rj.Batch:
    """Pixels with the classes that the network sees in them; by default some are at a bound."""
    rng = np.random.default_rng(6)
    image = np.clip(rng.uniform(low, high, size=(SIZE, *SHAPE)), 0, 1)
    image = jnp.asarray(image, jnp.float32)
    return rj.Batch(image, jnp.eye(3)[jnp.argmax(forward(image).logits, -1)][:, : classes(forward)])


def classes(forward: rj.Forward) -> int:
    return jax.eval_shape(forward, jnp.zeros((1, *SHAPE))).logits.shape[1]


def nearest(image: np.ndarray, slope: np.ndarray, offset: float) -> np.ndarray:
    """The point of the box nearest to the image with `slope . x + offset = 0`, in float64."""

    def at(t: float) -> np.ndarray:
        return np.clip(image + t * slope, 0, 1)

    far = 10 / np.abs(slope).min()
    return at(optimize.brentq(lambda t: slope @ at(t) + offset, 0, far, xtol=1e-13 * far))


@jax.jit
def attacked(params: Any, batch: rj.Batch, confidence: float) -> tuple[jax.Array, jax.Array]:
    return cw_l2(rj.from_function(linear, params), batch, confidence=confidence)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("inner", [True, False])
def test_the_distance_to_the_boundary_of_a_linear_network(scale: float, inner: bool) -> None:
    params = linear_params(scale)
    batch = predicted(rj.from_function(linear, params), *((0.35, 0.65) if inner else ()))
    image, success = attacked(params, batch, 0.0)
    assert jnp.all(success)
    assert jnp.all((image >= 0) & (image <= 1))
    kernel, bias = (np.asarray(params[n], np.float64) for n in ("kernel", "bias"))
    true = np.argmax(batch.label, -1)
    clean = np.asarray(batch.image, np.float64).reshape(SIZE, -1)
    distance = np.linalg.norm(np.asarray(image).reshape(SIZE, -1) - clean, axis=1)
    if inner:  # the margin over ||w_i - w_j||
        slope = kernel[:, 1] - kernel[:, 0]
        expected = np.abs(clean @ slope + bias[0, 1] - bias[0, 0]) / np.linalg.norm(slope)
    else:
        sign = np.where(true == 0, 1, -1)
        slope, offset = kernel[:, 1] - kernel[:, 0], bias[0, 1] - bias[0, 0]
        found = [nearest(x, s * slope, s * offset) for x, s in zip(clean, sign, strict=True)]
        expected = np.linalg.norm(found - clean, axis=1)
    np.testing.assert_allclose(distance, expected, rtol=5e-3, atol=1e-4)
    logits = np.asarray(rj.from_function(linear, params)(image).logits)
    assert np.all(np.argmax(logits, -1) != true)


def test_confidence_is_the_margin_that_is_reached() -> None:
    params = linear_params()
    forward = rj.from_function(linear, params)
    batch = predicted(forward)
    image, success = attacked(params, batch, 0.2)
    logits, true = forward(image).logits, jnp.argmax(batch.label, -1)
    margin = jnp.where(true == 0, 1, -1) * (logits[:, 1] - logits[:, 0])
    assert jnp.all(success)
    assert jnp.all(margin >= 0.2)
    assert jnp.median(margin) < 0.21
    nearer, _ = attacked(params, batch, 0.0)
    sizes = [jnp.linalg.norm((x - batch.image).reshape(SIZE, -1), axis=1) for x in (nearer, image)]
    assert jnp.all(sizes[0] < sizes[1])


def test_what_is_wrong_already_or_cannot_be_misled_is_returned_as_it_is() -> None:
    params = linear_params()
    batch = predicted(rj.from_function(linear, params))
    wrong = batch.replace(label=batch.label.at[:5].set(1 - batch.label[:5]))
    image, success = attacked(params, wrong, 0.0)
    assert_same(image[:5], batch.image[:5])
    assert jnp.all(success)
    assert jnp.all(jnp.any(image[5:] != batch.image[5:], axis=(1, 2, 3)))
    image, success = attacked(params, batch, 1e3)  # further than the box reaches
    assert_same(image, batch.image)
    assert not jnp.any(success)


def test_a_curved_network_by_itself_in_any_order_and_unit() -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    attack = jax.jit(lambda batch: cw_l2(forward, batch, steps=100, search_steps=6))
    image, success = attack(batch)
    assert jnp.all(success)
    assert jnp.all(jnp.argmax(forward(image).logits, -1) != jnp.argmax(batch.label, -1))
    order = jnp.asarray(np.random.default_rng(0).permutation(SIZE))
    assert_close(attack(jax.tree.map(lambda a: a[order], batch))[0], image[order])
    others = batch.replace(image=batch.image.at[3:].set(1 - batch.image[3:]))
    assert_same(attack(others)[0][:3], image[:3])
    in_bytes = batch.replace(image=255 * batch.image)
    of_bytes = forward.after(lambda x: x / 255)
    large, _ = jax.jit(lambda batch: cw_l2(of_bytes, batch, steps=100, search_steps=6, high=255.0))(
        in_bytes
    )
    sizes = [
        jnp.linalg.norm((a - b).reshape(SIZE, -1), axis=1)
        for a, b in ((image, batch.image), (large / 255, batch.image))
    ]
    np.testing.assert_allclose(*sizes, rtol=2e-2)


def test_mistakes() -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    for name in ("steps", "search_steps"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            cw_l2(forward, batch, **{name: 0})
    with pytest.raises(ValueError, match=r"cw_l2 needs low < high"):
        cw_l2(forward, batch, low=1.0)
    with pytest.raises(ValueError, match=r"confidence must be one number, got shape \[12\]"):
        cw_l2(forward, batch, confidence=jnp.zeros(SIZE))
