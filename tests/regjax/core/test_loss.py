"""Batches, points, averages, losses as values: what is computed and what is refused."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import CLASSES, assert_close, assert_same, random_batch, tanh_forward

import regjax as rj
from regjax.core.batch import example_keys, weighted_mean

KEY = jax.random.key(0)
CHAIN = "cross_entropy | l2(weight=0.1) | noise_injection(sigma=0.2) | l2(weight=0.3, exclude=())"


def run(loss: rj.Loss, batch: rj.Batch | None = None) -> rj.Result:
    batch = random_batch(4) if batch is None else batch
    forward = tanh_forward()
    return loss.apply(loss.init(forward, batch), forward, batch, KEY)[0]


# Losses as values.


def test_losses_stack_map_and_vmap() -> None:
    losses = [rj.parse(CHAIN.replace("0.1", str(w))) for w in (0.0, 0.5, 1.0)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *losses)
    assert repr(stacked.stages[1]) == "l2(weight=float32[3])"
    weights = jax.vmap(lambda loss: loss.stages[1].arguments["weight"])(stacked)
    np.testing.assert_array_equal(weights, [0.0, 0.5, 1.0])
    doubled = jax.tree.map(lambda x: 2 * x, losses[1])
    assert doubled == rj.parse(
        "cross_entropy | l2(weight=1.0) | noise_injection(sigma=0.4) | l2(weight=0.6, exclude=())"
    )
    assert [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(losses[0])] == [
        ".stages[1].l2.weight",
        ".stages[2].noise_injection.sigma",
        ".stages[3].l2.weight",
    ]


def test_losses_copy_pickle_and_compare() -> None:
    loss = rj.parse(CHAIN)
    for other in (copy.copy(loss), copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other == loss
        assert jax.tree.structure(other) == jax.tree.structure(loss)
    assert loss != rj.parse(CHAIN.replace("0.1", "0.11"))
    assert loss != rj.parse(CHAIN.replace("(weight=0.3, exclude=())", "(weight=0.3)"))
    assert loss != rj.cross_entropy()
    assert loss != CHAIN
    with pytest.raises(TypeError, match="unhashable"):
        hash(loss)


def test_losses_print_whatever_their_leaves_are() -> None:
    loss = rj.l2(rj.cross_entropy(), weight=0.1)
    assert repr(jax.eval_shape(lambda x: x, loss)) == "cross_entropy | l2(weight=float32[])"
    rounded = float(np.float32(0.1))
    assert repr(jax.tree.map(jnp.asarray, loss)) == f"cross_entropy | l2(weight={rounded})"
    seen = []
    jax.jit(lambda x: seen.append(repr(x)))(loss)
    assert seen == ["cross_entropy | l2(weight=float32[])"]
    scheduled = rj.l2(rj.cross_entropy(), weight=optax.linear_schedule(0, 1, 2))
    assert "schedule" in repr(scheduled)


def test_stages_of_one_name_are_numbered() -> None:
    result = run(rj.parse(CHAIN))
    assert set(result.penalties) == {"l2", "l2_2"}
    assert set(result.metrics) == {"cross_entropy", "l2", "l2_2"}
    alone = run(rj.parse("cross_entropy | l2(weight=0.3, exclude=())"))
    assert_close(result.penalties["l2_2"], alone.penalties["l2"])


def test_a_stage_named_like_a_numbered_one_loses_no_term() -> None:
    @rj.penalty
    def l2_2(point):
        return jnp.ones(())

    loss = rj.l2(l2_2(rj.l2(rj.cross_entropy(), weight=1.0), weight=1.0), weight=1.0)
    assert [name for name, _ in loss.named()] == ["cross_entropy", "l2", "l2_2", "l2_3"]
    assert len(run(loss).penalties) == 3


def test_adding_a_stage_leaves_the_draws_of_the_others() -> None:
    noise = rj.noise_injection(rj.cross_entropy(), sigma=0.5)
    noisy, more = run(noise), run(rj.frobenius(noise, weight=1.0, probes=1))
    assert_same(noisy.losses, more.losses)


def test_wrappers_apply_from_the_outside_in() -> None:
    @rj.wrapper
    def shifted(forward, batch, *, by):
        return forward, batch.replace(image=batch.image + by)

    @rj.wrapper
    def scaled(forward, batch, *, by):
        return forward, batch.replace(image=batch.image * by)

    batch = random_batch(4)
    loss = scaled(shifted(rj.cross_entropy(), by=1.0), by=3.0)
    expected = run(rj.cross_entropy(), batch.replace(image=3 * batch.image + 1))
    assert_close(run(loss, batch).losses, expected.losses)


# State.


def test_init_needs_shapes_only_and_counts_steps() -> None:
    loss, batch, forward = rj.parse(CHAIN), random_batch(4), tanh_forward()
    shapes = jax.eval_shape(loss.init, forward, batch)
    state = loss.init(forward, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    for step in range(3):
        assert (state.step, state.step.dtype) == (step, jnp.int32)
        _, state = loss.apply(state, forward, batch, KEY)


def test_another_losss_state_is_refused() -> None:
    @rj.penalty(init=lambda forward, batch: jnp.zeros(()))
    def counted(point, state):
        return state, state + 1

    batch, forward = random_batch(4), tanh_forward()
    plain, stateful = rj.cross_entropy(), counted(rj.cross_entropy(), weight=1.0)
    with pytest.raises(ValueError, match=r"holds the stages \[\].*needs \['counted'\].*loss\.init"):
        stateful.apply(plain.init(forward, batch), forward, batch, KEY)
    with pytest.raises(ValueError, match=r"holds the stages \['counted'\].*needs \[\]"):
        plain.apply(stateful.init(forward, batch), forward, batch, KEY)


def test_a_key_is_needed() -> None:
    loss, batch, forward = rj.cross_entropy(), random_batch(4), tanh_forward()
    with pytest.raises(TypeError, match=r"needs a key, such as jax\.random\.key\(0\).*None"):
        loss.apply(loss.init(forward, batch), forward, batch, None)


# Batches.


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
    assert_close(run(rj.parse(CHAIN), arrays).losses, run(rj.parse(CHAIN), batch).losses)


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


# The point.


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


# What reviewers and users stumbled over.


def test_padding_may_hold_anything_but_does_not_reach_the_total() -> None:
    result = rj.Result(jnp.array([1.0, jnp.nan]), {"p": jnp.array([2.0, jnp.inf])}, None, {})
    batch = random_batch(2).replace(weight=jnp.array([1.0, 0.0]))
    assert float(rj.total(result, batch)) == 3.0


def test_an_index_that_is_no_integer_and_a_state_that_is_none_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Batch.index must be integers, but it is float32\[4\]"):
        run(rj.cross_entropy(), random_batch(4).replace(index=jnp.ones(4)))
    with pytest.raises(TypeError, match=r"what loss.init.* returned, but it is a NoneType"):
        rj.cross_entropy().apply(None, tanh_forward(), random_batch(4), KEY)


def test_an_exact_penalty_is_the_mean_that_the_probes_estimate_example_by_example() -> None:
    exact = run(rj.frobenius(rj.cross_entropy(), weight=1.0))
    assert exact.penalties["frobenius"].shape == ()
    estimate = run(rj.frobenius(rj.cross_entropy(), weight=1.0, probes=20000))
    np.testing.assert_allclose(
        exact.penalties["frobenius"], estimate.penalties["frobenius"].mean(), rtol=0.02
    )
