"""Batches: what is refused, whose draws are whose, and averages over examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward

import regjax as rj
from regjax.core.batch import example_keys, weighted_mean

KEY = jax.random.key(0)


def run(loss: rj.Loss, batch: rj.Batch) -> rj.Result:
    forward = tanh_forward()
    return loss.apply(loss.init(forward, batch), forward, batch, KEY)[0]


def test_batches_that_are_none_are_refused() -> None:
    batch = random_batch(4)
    image, label = batch.image, batch.label
    cases = [
        ({"label": jnp.arange(4)}, TypeError, r"probabilities \[B, C\].*int32\[4\].*one_hot"),
        ({"label": np.eye(4, 3, dtype=int)}, TypeError, r"probabilities.*int64\[4, 3\]"),
        ({"label": [0, 1, 2, 0]}, TypeError, r"Batch.label must be an array.*list"),
        ({"image": image.tolist()}, TypeError, r"Batch.image must be an array.*list"),
        ({"image": (image * 9).astype(jnp.uint8)}, TypeError, r"floating.*uint8\[4, 4, 2, 1\]"),
        ({"label": label[:3]}, ValueError, r"same B.*float32\[4, 4, 2, 1\].*float32\[3, 3\]"),
        ({"label": label[:, 0]}, ValueError, r"\[B, C\].*float32\[4\]"),
        ({"label": label[:, :2]}, ValueError, r"logits.*\[4, 3\].*\[4, 2\].*same C"),
        ({"index": jnp.arange(3)}, ValueError, r"Batch.index must have shape \[4\].*int32\[3\]"),
        ({"weight": jnp.ones((4, 1))}, ValueError, r"Batch.weight.*\[4\].*float32\[4, 1\]"),
    ]
    for changes, error, words in cases:
        with pytest.raises(error, match=words) as caught:
            run(rj.cross_entropy(), batch.replace(**changes))
        assert str(caught.value).count("\n") == 0


def test_numpy_batches_are_taken() -> None:
    batch = random_batch(4)
    arrays = jax.tree.map(np.asarray, batch)
    loss = rj.parse("cross_entropy | noise_injection(sigma=0.2)")
    assert_close(run(loss, arrays).losses, run(loss, batch).losses)


def test_example_keys_go_by_index() -> None:
    batch = random_batch(4)
    draws = jax.vmap(jax.random.normal)(example_keys(KEY, batch))
    backwards = jax.tree.map(lambda x: x[::-1], batch)
    assert_same(jax.vmap(jax.random.normal)(example_keys(KEY, backwards)), draws[::-1])
    counted = example_keys(KEY, batch.replace(index=None))
    expected = example_keys(KEY, batch.replace(index=jnp.arange(4)))
    assert_same(jax.random.key_data(counted), jax.random.key_data(expected))


# Averages.


def test_weighted_mean() -> None:
    values, weight = jnp.array([1.0, 2.0, 9.0]), jnp.array([1.0, 3.0, 0.0])
    assert weighted_mean(values, None) == 4.0
    assert weighted_mean(values, weight) == 7 / 4
    assert weighted_mean(values, weight > 0) == 3 / 2
    assert weighted_mean(values, 0 * weight) == 0.0
    assert jnp.all(jax.grad(weighted_mean)(values, 0 * weight) == 0)


def test_a_device_of_padding_alone_counts_nothing() -> None:
    values = jnp.arange(16.0).reshape(8, 2)
    weight = jnp.arange(8.0)[:, None] * jnp.array([[1.0, 0.0]])
    means = jax.pmap(lambda v, w: weighted_mean(v, w, "data"), "data")(values, weight)
    assert_close(jnp.mean(means), jnp.sum(values * weight) / jnp.sum(weight))
