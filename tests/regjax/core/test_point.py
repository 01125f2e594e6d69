"""The point: what its pullbacks are, with features and auxiliary heads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads
from support import CLASSES, assert_close, random_batch, tanh_forward

import regjax as rj

KEY = jax.random.key(0)


def run(loss: rj.Loss, batch: rj.Batch, forward: rj.Forward | None = None) -> rj.Result:
    forward = tanh_forward() if forward is None else forward
    return loss.apply(loss.init(forward, batch), forward, batch, KEY)[0]


def test_point_pulls_back_what_a_jacobian_says() -> None:
    batch, forward, points = random_batch(2), tanh_forward(), []

    @rj.penalty
    def spying(point):
        points.append(point)
        return jnp.zeros(())

    run(spying(rj.cross_entropy(), weight=1.0), batch)
    (point,) = points
    jacobian = jax.jacobian(lambda x: forward(x).logits)(batch.image)
    cotangent = jnp.arange(2.0 * CLASSES).reshape(2, CLASSES)
    expected = jnp.tensordot(cotangent, jacobian, 2)
    assert_close(point.pullback(cotangent), expected)
    assert_close(point.pullback(cotangent.astype(jnp.bfloat16)), expected)
    gradient = jax.grad(lambda x: jnp.sum(run(rj.cross_entropy(), batch.replace(image=x)).losses))
    assert_close(point.pullback(point.loss_cotangent()), gradient(batch.image))
    assert point.frozen is point


def test_a_base_on_features_is_differentiated_through_them() -> None:
    @rj.base
    def feature_energy(outputs, batch):
        return jnp.sum(outputs.features**2, -1) + jnp.sum(outputs.logits, -1)

    batch, forward = random_batch(3), tanh_forward()
    loss = rj.double_backprop(feature_energy(), weight=1.0)

    def energy(image):
        outputs = forward(image)
        return jnp.sum(outputs.features**2) + jnp.sum(outputs.logits)

    expected = jnp.sum(jax.grad(energy)(batch.image) ** 2, axis=(1, 2, 3))
    assert_close(run(loss, batch).penalties["double_backprop"], expected)


# Auxiliary heads.


def forked(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array, tuple[Any, ...]]:
    """A hidden layer that ends in an auxiliary head, another on top that ends in the head."""
    first = jnp.tanh(x.reshape(len(x), -1) @ params["first"])
    second = jnp.tanh(first @ params["second"])
    return second @ params["head"], second, ((first @ params["aside"], first),)


def forked_params(dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    shapes = {"first": (8, 4), "second": (4, 4), "head": (4, CLASSES), "aside": (4, CLASSES)}
    return {name: jnp.asarray(rng.normal(size=s), dtype) for name, s in shapes.items()}


def forked_forward(params: Any) -> rj.Forward:
    auxiliary = (lambda params: (params["aside"], None),)
    head = lambda params: (params["head"], None)  # noqa: E731
    return rj.from_function(forked, params, head=head, auxiliary=auxiliary)


@rj.base
def supervised_twice(outputs, batch, *, share):
    """Cross entropy, and a share of the auxiliary head's."""
    heads = (outputs.logits, outputs.auxiliary[0].logits)
    own, aside = (-jnp.sum(batch.label * jax.nn.log_softmax(z), -1) for z in heads)
    return own + share * aside


def by_hand(params: Any, batch: rj.Batch) -> tuple[np.ndarray, np.ndarray]:
    """The losses, and their gradients by the image, in float64."""
    p = {name: np.asarray(w, np.float64) for name, w in params.items()}
    x, y = (np.asarray(a, np.float64) for a in (batch.image, batch.label))
    first = np.tanh(x.reshape(len(x), -1) @ p["first"])
    second = np.tanh(first @ p["second"])
    losses, slopes = [], []
    for z in (second @ p["head"], first @ p["aside"]):
        e = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
        losses.append(-np.sum(y * np.log(e), -1))
        slopes.append(e - y)
    by_first = slopes[0] @ p["head"].T * (1 - second**2) @ p["second"].T
    by_first = by_first + 0.4 * slopes[1] @ p["aside"].T
    gradient = by_first * (1 - first**2) @ p["first"].T
    return losses[0] + 0.4 * losses[1], gradient.reshape(x.shape)


def test_a_base_with_an_auxiliary_head_is_differentiated_through_it() -> None:
    params, batch = forked_params(), random_batch(5)
    loss = rj.double_backprop(supervised_twice(share=0.4), weight=1.0)
    result = run(loss, batch, forked_forward(params))
    losses, gradient = by_hand(params, batch)
    assert_close(result.losses, jnp.asarray(losses))
    assert_close(
        result.penalties["double_backprop"], jnp.sum(jnp.asarray(gradient) ** 2, (1, 2, 3))
    )


def test_parameters_of_an_auxiliary_head_are_trained(x64: None) -> None:
    batch = random_batch(3, dtype=jnp.float64)
    loss = rj.frobenius(supervised_twice(share=0.4), weight=0.1, probes=1)

    def total(params: Any) -> jax.Array:
        return rj.total(run(loss, batch, forked_forward(params)), batch)

    params = forked_params(jnp.float64)
    check_grads(jax.jit(total), (params,), order=1, modes=("rev",), eps=1e-5)
    assert jnp.any(jax.grad(total)(params)["aside"] != 0)


def test_a_cotangent_of_the_logits_leaves_the_auxiliary_head_out() -> None:
    """The exact Jacobian of the logits is that of a network without the head."""
    params, batch = forked_params(), random_batch(3)
    plain = rj.from_function(lambda params, x: forked(params, x)[0], params)
    loss = rj.frobenius(rj.cross_entropy(), weight=1.0)
    expected = run(loss, batch, plain).penalties
    assert_close(run(loss, batch, forked_forward(params)).penalties, expected)
