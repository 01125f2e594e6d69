"""The number that is made of a loss: what each example counts in it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward

import regjax as rj

LABELLED = (2, 13, 38, 42, 0)
WEIGHT = (1.0, 2.0, 0.5, 1.0, 1.0)


def dense(weight: tuple[float, ...] | None = None) -> tuple[rj.Forward, rj.Batch]:
    """Images of 42 positions, of which some are labelled, and a network that is a table."""
    rng = np.random.default_rng(0)
    label = np.zeros((5, 6, 7, 3))
    for i, count in enumerate(LABELLED):
        places = rng.permutation(42)[:count]
        label[i].reshape(42, 3)[places] = np.eye(3)[rng.integers(3, size=count)]
    image = rng.normal(size=label.shape)
    weights = None if weight is None else jnp.asarray(weight)
    forward = rj.from_function(lambda params, x: x * params[None, None, None], jnp.ones(3))
    return forward, rj.Batch(jnp.asarray(image), jnp.asarray(label), weight=weights)


def cross_entropies(batch: rj.Batch) -> np.ndarray:
    """Of every position, 0 where there is no label; NumPy, float64."""
    image, label = np.asarray(batch.image), np.asarray(batch.label)
    log_p = image - np.log(np.exp(image).sum(-1, keepdims=True))
    return -(label * log_p).sum(-1)


def total(forward: rj.Forward, batch: rj.Batch, by_image: bool = False) -> jax.Array:
    loss = rj.l2(rj.cross_entropy(), weight=0.1, exclude=())
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
    if not by_image:
        assert_close(result.metrics["cross_entropy"], rj.total(result, batch) - penalty(forward))
    return rj.total(result, batch, by_image=by_image)


def penalty(forward: rj.Forward) -> float:
    loss = rj.l2(rj.cross_entropy(), weight=0.1, exclude=())
    batch = dense()[1]
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
    return float(result.penalties["l2"])


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_dense_labels_count_by_position_and_on_demand_by_image(
    weight: tuple[float, ...] | None,
) -> None:
    forward, batch = dense(weight)
    each, w = cross_entropies(batch), np.asarray(weight or np.ones(5))
    count = np.asarray(LABELLED)
    by_position = (w * each.sum((1, 2))).sum() / (w * count).sum()
    assert_close(total(forward, batch) - penalty(forward), by_position)
    # The last image has no label, and so no mean.
    means = each.sum((1, 2))[:4] / count[:4]
    assert_close(
        total(forward, batch, by_image=True) - penalty(forward), (w[:4] * means).sum() / w[:4].sum()
    )


def test_one_label_an_image_has_no_weights_of_its_own() -> None:
    forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
    batch = rj.Batch(jnp.ones((3, 2)), jnp.eye(2)[jnp.array([0, 1, 1])], weight=jnp.ones(3))
    loss = rj.cross_entropy()
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
    assert result.weight is None
    assert rj.total(result, batch) == rj.total(result, batch, by_image=True)


@rj.base
def off_by(outputs: rj.Outputs, batch: rj.Batch) -> jax.Array:
    """A base loss that is not 0 where there is no label."""
    return jnp.sum((outputs.logits - batch.label) ** 2, -1)


SLOW = pytest.mark.slow
LOSSES = (
    "cross_entropy | label_smoothing(amount=0.1) | disturb_label(rate=0.5)",
    "cross_entropy | class_weights(weights=(0.5, 2.0, 1.0)) | double_backprop(weight=0.1)",
    "off_by | mixup(alpha=1.0, per_example=True)",
    pytest.param("isda(strength=0.5) | mixup(alpha=1.0)", marks=SLOW),
    pytest.param("explicit_augmentation(strength=0.5, samples=2)", marks=SLOW),
    "learned_augmentation(factor=0.5, samples=2, uncertainty=0.1, margin=9.0)",
)


@pytest.mark.parametrize("text", LOSSES)
def test_an_example_whose_label_is_all_0_is_padding(text: str) -> None:
    """In the means of the base and the penalties, as a partner, in the statistics of classes."""
    there = np.array([1, 0, 1, 1, 0, 1])
    weight = jnp.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])
    batch, loss = random_batch(6).replace(index=jnp.arange(6)), rj.parse(text)

    @jax.jit
    def found(label: jax.Array, weight: jax.Array) -> Any:
        forward, own = tanh_forward(), batch.replace(label=label, weight=weight)
        result, state = loss.apply(loss.init(forward, own), forward, own, jax.random.key(0))
        return rj.total(result, own), result.losses[np.flatnonzero(there)], result.metrics, state

    unlabelled = found(batch.label * there[:, None], weight)
    assert_same(unlabelled, found(batch.label, weight * there))


@pytest.mark.parametrize("weight", [None, (1.0, 3.0, 0.5)])
def test_the_mean_is_over_the_examples_that_have_a_label(weight: Any) -> None:
    rng = np.random.default_rng(0)
    x, params = rng.normal(size=(3, 2)), rng.normal(size=(2, 4))
    label = jax.nn.one_hot(jnp.array([3, -1, 255]), 4).at[2].set(jnp.array([0.2, 0.8, 0, 0]))
    w = np.array(weight or (1.0, 1.0, 1.0)) * [1, 0, 1]
    p = np.exp(x @ params) / np.exp(x @ params).sum(1, keepdims=True)

    @jax.value_and_grad
    def step(params: jax.Array) -> jax.Array:
        forward = rj.from_function(lambda params, x: x @ params, params)
        batch = rj.Batch(jnp.asarray(x), label, weight=weight and jnp.asarray(weight))
        loss = rj.cross_entropy()
        result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
        return rj.total(result, batch)

    expected = -(w * (label * np.log(p)).sum(1)).sum() / w.sum(), x.T @ ((p - label) * w[:, None])
    assert_close(step(jnp.asarray(params)), (expected[0], expected[1] / w.sum()))


def test_a_batch_without_any_label_has_the_total_0() -> None:
    forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
    batch = rj.Batch(jnp.ones((3, 2)), jax.nn.one_hot(jnp.full(3, -1), 2))
    loss = rj.cross_entropy()
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
    assert rj.total(result, batch) == 0
