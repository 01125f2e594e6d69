"""The center loss against NumPy float64: distances, the centers' own rule, parts and devices."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from support import assert_close

import regjax as rj
from regjax.losses.center import Centers

KEY = jax.random.key(0)
FORWARD = rj.from_function(lambda params, x: (x @ params, x), jnp.ones((2, 3)))
LOSS = rj.parse("cross_entropy | center(weight=1.0, rate=0.5)")


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@jax.jit
def applied(loss: rj.Loss, state: Centers, batch: rj.Batch, part: Any) -> Any:
    """The penalty, its gradient by the features, and the next state."""

    def total(image: jax.Array) -> Any:
        whole = rj.LossState(jnp.int32(0), {"center": state})
        own = batch.replace(image=image)
        result, following = loss.apply(whole, FORWARD, own, KEY, part=part)
        penalty = result.penalties["center"]
        return penalty.sum(), (penalty, following.stages["center"])

    gradient, (penalty, following) = jax.grad(total, has_aux=True)(batch.image)
    return penalty, gradient, following


def starting(centers: Any) -> Centers:
    """As an earlier step left it, of which sums are still there."""
    centers = jnp.asarray(centers, float)
    return Centers(centers, centers + 7, centers + 8, jnp.full(len(centers), 3.0))


def random_batch(*positions: int) -> rj.Batch:
    """Hard, soft and no labels, one example of weight 2 and one of weight 0."""
    rng = np.random.default_rng(0)
    label = rng.dirichlet(np.ones(3), size=(6, *positions))
    label[0], label[1], label[4] = np.eye(3)[0], np.eye(3)[2], 0
    weight = np.array([1.0, 2, 1, 0, 1, 1])
    return rj.Batch(jnp.asarray(rng.normal(size=(6, *positions, 2))), label, weight=weight)


def by_hand(centers: np.ndarray, batch: rj.Batch, rate: float) -> np.ndarray:
    """Example by example and class by class."""
    x, label = np.asarray(batch.image), batch.label * np.asarray(batch.weight)[:, None]
    moved = centers.copy()
    for c, center in enumerate(centers):
        delta = sum(label[i, c] * (center - x[i]) for i in range(len(x)))
        moved[c] -= rate * delta / (1 + label[:, c].sum())
    return moved


def test_distances_and_centers_are_the_papers() -> None:
    x = np.array([[1.0, 0], [3, 0], [2, 2], [9, 9], [9, 9], [9, 9]])
    label = np.eye(4)[[0, 0, 1, 3, 3, 3], :3]
    batch = rj.Batch(jnp.asarray(x), jnp.asarray(label), weight=jnp.ones(6))
    penalty, gradient, state = applied(LOSS, starting([[0, 0], [1, 1], [5, 5]]), batch, 0)
    np.testing.assert_allclose(penalty, [0.5, 4.5, 1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(state.centers, [[2 / 3, 0], [1.25, 1.25], [5, 5]], rtol=1e-12)
    np.testing.assert_allclose(gradient[:3], [[1, 0], [3, 0], [1, 1]], rtol=1e-12)


def test_soft_labels_and_weights_count_as_they_are() -> None:
    batch, centers = random_batch(), np.random.default_rng(1).normal(size=(3, 2))
    penalty, gradient, state = applied(LOSS, starting(centers), batch, 0)
    apart = np.asarray(batch.image)[:, None] - centers
    label = np.asarray(batch.label)
    expected = 0.5 * (label * (apart**2).sum(-1)).sum(1)
    np.testing.assert_allclose(penalty, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient, (label[..., None] * apart).sum(1), atol=1e-12)
    np.testing.assert_allclose(state.centers, by_hand(centers, batch, 0.5), rtol=1e-9)
    np.testing.assert_array_equal(state.before, centers)


def test_parts_of_a_batch_move_the_centers_as_the_whole_does() -> None:
    batch, centers = random_batch(), np.random.default_rng(1).normal(size=(3, 2))
    whole, _, expected = applied(LOSS, starting(centers), batch, 0)
    state, losses = starting(centers), []
    for part in range(2):
        rows = slice(3 * part, 3 * part + 3)
        penalty, _, state = applied(LOSS, state, jax.tree.map(lambda x, r=rows: x[r], batch), part)
        losses += [*penalty]
    np.testing.assert_allclose(losses, whole, rtol=1e-9, atol=1e-12)
    assert_close(state, expected, jnp.float64)
    assert rj.parse(repr(LOSS)).in_parts() == {"center"}


@pytest.mark.slow
def test_devices_move_the_centers_as_one_does() -> None:
    """Two examples a device, of which one device has padding only."""
    batch = jax.tree.map(lambda *x: jnp.concatenate(x), *[random_batch()] * 3)
    batch = jax.tree.map(lambda x: x[:16], batch)
    batch = batch.replace(weight=batch.weight.at[:2].set(0))
    state = starting(np.random.default_rng(1).normal(size=(3, 2)))
    loss = rj.center(rj.cross_entropy(), weight=1.0, rate=0.5, axis_name="data")
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    data, alike = PartitionSpec("data"), PartitionSpec()

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=(alike, data), out_specs=(data, alike))
    def on_device(state: Centers, batch: rj.Batch) -> Any:
        whole = rj.LossState(jnp.int32(0), {"center": state})
        result, following = loss.apply(whole, FORWARD, batch, KEY)
        return result.penalties["center"], following.stages["center"]

    penalty, _, following = applied(LOSS, state, batch, 0)
    assert_close(on_device(state, batch), (penalty, following), jnp.float64)
    by_pmap = jax.pmap(
        lambda state, batch: loss.apply(
            rj.LossState(jnp.int32(0), {"center": state}), FORWARD, batch, KEY
        )[1].stages["center"],
        axis_name="data",
        in_axes=(None, 0),
    )
    shards = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
    for device in range(8):
        own = jax.tree.map(lambda x, d=device: x[d], by_pmap(state, shards))
        assert_close(own, following, jnp.float64)


def test_positions_are_examples_to_the_centers() -> None:
    """The penalty is the mean over an example's labelled ones."""
    dense = random_batch(4)
    flat = rj.Batch(
        dense.image.reshape(24, 2), dense.label.reshape(24, 3), weight=jnp.repeat(dense.weight, 4)
    )
    state = starting(np.random.default_rng(1).normal(size=(3, 2)))
    each, _, expected = applied(LOSS, state, flat, 0)
    penalty, _, following = applied(LOSS, state, dense, 0)
    np.testing.assert_allclose(penalty, np.reshape(each, (6, 4)).mean(1), rtol=1e-9, atol=1e-12)
    assert_close(following, expected, jnp.float64)


def test_the_state_begins_at_zero_in_float32_or_wider() -> None:
    batch = rj.Batch(jnp.ones((2, 2), jnp.bfloat16), jnp.ones((2, 3)))
    state = jax.eval_shape(lambda: LOSS.init(FORWARD, batch)).stages["center"]
    assert [x.shape for x in state] == [(3, 2), (3, 2), (3, 2), (3,)]
    wide = jax.eval_shape(lambda: LOSS.init(FORWARD, random_batch())).stages["center"]
    assert {x.dtype for x in wide} == {jnp.dtype(jnp.float64)}
    assert not any(np.any(x) for x in LOSS.init(FORWARD, random_batch()).stages["center"])


def test_padding_may_be_anything() -> None:
    batch = random_batch()
    state = starting(np.zeros((3, 2)))
    _, _, expected = applied(LOSS, state, batch, 0)
    broken = batch.replace(image=batch.image.at[np.array([3, 4])].set(np.nan))
    assert_close(applied(LOSS, state, broken, 0)[2], expected, jnp.float64)


def test_networks_without_features_and_axes_that_are_not_mapped_are_refused() -> None:
    bare, batch = rj.from_function(lambda params, x: x @ params, jnp.ones((2, 3))), random_batch()
    with pytest.raises(ValueError, match="features"):
        LOSS.init(bare, batch)
    loss = rj.center(rj.cross_entropy(), weight=1.0, rate=0.5, axis_name="data")
    state = loss.init(FORWARD, batch)
    with pytest.raises(ValueError, match="'data' is not an axis of a pmap or shard_map"):
        jax.eval_shape(lambda: loss.apply(state, FORWARD, batch, KEY)[0].losses)
