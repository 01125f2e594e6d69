"""Losses as values, their state, views and parts: what is computed and what is refused.

Covers `checks.py` too.
"""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward

import regjax as rj
from regjax.core.keys import named_key

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


# Views.


@rj.wrapper
def doubled(forward, batch):
    return forward, batch.replace(image=2 * batch.image)


@rj.wrapper
def noisy_by_one(forward, batch, key):
    noise = jax.random.normal(key, batch.image.shape)
    return forward.with_tap(lambda _, h: h + 1, layers=("hidden",)), batch.replace(
        image=batch.image + noise
    )


VIEWS: list[tuple[rj.Forward, rj.Batch]] = []


@rj.penalty
def two_views(view, key, batch):
    VIEWS[:] = [view(batch.unlabeled, each) for each in (key, *jax.random.split(key))]
    return 0.0


def test_a_view_puts_other_examples_through_the_wrappers_from_the_outside_in() -> None:
    """Twice the image, then noise, then the penalty's key in each wrapper's own name."""
    other = random_batch(3, seed=7)
    loss = two_views(doubled(noisy_by_one(rj.cross_entropy())), weight=1.0)
    run(loss, random_batch(4).replace(unlabeled=other))
    key = named_key(KEY, "two_views")
    for (forward, batch), own in zip(VIEWS, (key, *jax.random.split(key)), strict=True):
        noise = jax.random.normal(named_key(own, "noisy_by_one"), other.image.shape)
        assert_close(batch.image, 2 * other.image + noise)
        plain = tanh_forward()(batch.image)
        assert_close(forward(batch.image).features, plain.features + 1)
        assert_same(batch.label, other.label)
    assert not jnp.allclose(VIEWS[0][1].image, VIEWS[1][1].image)


def test_without_wrappers_a_view_is_the_network_and_the_batch() -> None:
    other = random_batch(3, seed=7)
    run(two_views(rj.cross_entropy(), weight=1.0), random_batch(4).replace(unlabeled=other))
    assert all(batch is other for _, batch in VIEWS)
    assert_same(VIEWS[0][0](other.image), tanh_forward()(other.image))


def test_wrappers_with_a_state_have_no_views() -> None:
    @rj.wrapper(init=lambda forward, batch: jnp.zeros(()))
    def remembering(forward, batch, state):
        return (forward, batch), state

    batch = random_batch(4).replace(unlabeled=random_batch(3))
    with pytest.raises(ValueError, match=r"wrappers without state, but remembering has one"):
        run(two_views(remembering(rj.cross_entropy()), weight=1.0), batch)


# Parts.


def test_the_number_of_a_part_reaches_who_asks_for_it() -> None:
    @rj.penalty(init=lambda forward, batch: jnp.zeros((), jnp.int32))
    def counted(state, part):
        return part.astype(float), state + part

    @rj.penalty(init=lambda forward, batch: jnp.zeros(()))
    def alike(state):
        return state, state

    loss = alike(counted(counted(rj.cross_entropy(), weight=1.0), weight=1.0), weight=1.0)
    assert loss.in_parts() == {"counted", "counted_2"}
    batch, forward = random_batch(4), tanh_forward()
    apply = jax.jit(lambda state, part: loss.apply(state, forward, batch, KEY, part=part))
    state = loss.init(forward, batch)
    for part, left in ((None, 0), (2, 2), (3, 5)):
        result, state = apply(state, part)
        assert result.penalties["counted"] == (part or 0)
        assert state.stages["counted"] == left


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
