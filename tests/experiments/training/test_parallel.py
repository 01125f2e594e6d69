"""A run on eight devices, in every way that there is, equals the run on one."""

import functools

import jax
import numpy as np
import pytest
import tiny_runs
from support import assert_close
from tiny_runs import Logits, batches, data, numbers, start, task

import regjax as rj
from experiments.benchmark import hlo
from experiments.training import parallel, steps
from experiments.training.descent import across
from experiments.training.parallel import Parallel
from experiments.training.task import Rows, gather

SEED, STEPS = 3, 2
JACOBIAN = "cross_entropy | jacobian(weight={}, probes=1)"
MIXED_ISDA = (
    "isda(strength=0.5) | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers=('hidden',))"
)
SEEDS = np.array([SEED], np.uint32)


def filled(size, multiple=8):
    """Batches filled up with examples of weight 0, as feeds fill them."""
    missing = [(0, 0), (0, -size % multiple)]
    index, weight = batches(0, size, STEPS)[:2]
    weight[0, 0] = 0.5
    return Rows(np.pad(index, missing, mode="wrap"), np.pad(weight, missing))


def one(loss):
    """A loss as a program of one run takes it."""
    return jax.tree.map(lambda x: np.float32([x]), rj.parse(loss))


@functools.cache
def program(chosen, kind, fsdp=1):
    return Parallel(chosen, data(), kind, fsdp)


def many(chosen, kind, fsdp, loss, rows, count=STEPS):
    """State, means and first broken steps on eight devices."""
    devices, loss = program(chosen, kind, fsdp), one(loss)
    old = devices.init(loss, SEEDS)
    rows = jax.tree.map(lambda x: x[None], rows)
    found = devices.advance(old, loss, SEEDS, rows, count)
    assert kind == "pmap" or all(x.is_deleted() for x in jax.tree.leaves(old))
    return found


@functools.cache
def alone(chosen, loss, size, count=STEPS, multiple=8):
    """The same on one device."""
    state = start(chosen, numbers(loss), SEED)
    advance = tiny_runs.program(chosen)
    return advance(np.int32(count), state, numbers(loss), SEEDS[0], filled(size, multiple))


def assert_equal(found, expected):
    assert_close(found[0], expected[0])
    for means, single in zip(found[1:], expected[1:], strict=True):
        assert_close(jax.tree.map(lambda x: x[0], means), single)


@pytest.mark.parametrize(("kind", "fsdp"), [("jit", 4), ("shard_map", 1), ("pmap", 1)])
def test_all_devices_equal_one_in_one_program(kind, fsdp):
    chosen = task(norm=True, decay=0.9)
    for size, strength, count in ((7, 0.1, 2), (8, 0.3, 1)):
        loss = JACOBIAN.format(strength)
        found = many(chosen, kind, fsdp, loss, filled(size), count)
        assert_equal(found, alone(chosen, loss, size, count))
        assert not np.allclose(found[0].model_state["norm"]["mean"], 0)
    if kind != "pmap":
        assert program(chosen, kind, fsdp)._jitted(parallel._advance, 1)._cache_size() == 1


@pytest.mark.parametrize("kind", [pytest.param("jit", marks=pytest.mark.slow), "shard_map"])
def test_stages_that_look_at_the_batch_equal_those_of_one_device(kind):
    chosen = task(norm=True)
    found = many(chosen, kind, 1, MIXED_ISDA, filled(9))
    assert_equal(found, alone(chosen, MIXED_ISDA, 9))


def test_several_examples_on_a_device_and_parts_of_a_batch():
    chosen, loss = task(norm=True, accumulate=2), "cross_entropy | noise_injection(sigma=0.1)"
    assert program(chosen, "shard_map").batch_multiple == 16
    found = many(chosen, "shard_map", 1, loss, filled(41, 16))
    assert_equal(found, alone(chosen, loss, 41, multiple=16))


def shares(x):
    """The shape of what each device has of an array."""
    return {shard.data.shape for shard in x.addressable_shards}


def test_parameters_and_what_the_optimizer_keeps_are_split():
    chosen, loss = task(norm=True, decay=0.9), JACOBIAN.format(0.1)
    state = many(chosen, "jit", 4, loss, filled(8))[0]
    trace = state.opt_state[0][0].trace
    for tree in (state.params, state.average, trace):
        assert shares(tree["hidden"]["kernel"]) == {(4, tiny_runs.WIDTH)}
        assert shares(tree["head"]["kernel"]) == {(2, tiny_runs.CLASSES)}
        assert shares(tree["hidden"]["bias"]) == {(tiny_runs.WIDTH,)}
    assert all(shares(x) == {x.shape} for x in jax.tree.leaves(state.model_state))


def test_statistics_split_by_class_equal_those_split_like_parameters():
    """In turn, since what was compiled for the one does not fit the other."""
    chosen, results = task(), []
    for where, share in (("", (4, 4, 8)), (", axis_name='data'", (1, 8, 8))):
        found = many(chosen, "jit", 2, f"isda(strength=0.5{where})", filled(8))
        matrix = found[0].loss_state.stages["isda"].covariance.matrix
        assert shares(matrix) == {share}
        results.append(found)
    assert_close(*results)


def test_dropout_differs_between_devices():
    @rj.penalty
    def spread(point, *, axis_name=None):
        mean = jax.lax.pmean(point.outputs.features.mean(0), axis_name)
        distance = (point.outputs.features - mean[None]) ** 2
        return jax.lax.pmean(distance.mean(), axis_name)

    index = np.zeros((STEPS, 8), np.int32)  # the same image on every device
    for rate, differs in ((0.5, True), (0.0, False)):
        loss, chosen = "cross_entropy | spread(weight=0.0)", task(dropout=rate)
        rows = Rows(index, np.ones(index.shape, np.float32))
        means = many(chosen, "shard_map", 1, loss, rows)[1]
        assert (means["spread"][0] > 1e-3) == differs


@pytest.mark.slow
def test_draws_for_every_image_are_the_same_on_all_devices_and_in_parts_as_on_one():
    loss = "cross_entropy | noise_injection(sigma=0.1)"
    whole = alone(task(shake=0.5), loss, 41, multiple=16)
    for kind in ("jit", "shard_map"):
        found = many(task(shake=0.5, accumulate=2), kind, 1, loss, filled(41, 16))
        assert_equal(found, whole)
    without = alone(task(), loss, 41, multiple=16)
    assert not np.allclose(whole[0].params["head"]["kernel"], without[0].params["head"]["kernel"])


def test_streamed_batches_equal_those_in_memory():
    chosen, loss = task(norm=True), "cross_entropy"
    rows, stored = filled(9), jax.tree.map(np.asarray, data())
    devices = Parallel(chosen, None, "shard_map")
    state = devices.init(one(loss), SEEDS)
    totals = []
    for each in zip(rows.index, rows.weight, strict=True):
        batch = devices.place(gather(stored, Rows(*each)))
        state, metrics = devices.step(state, one(loss), SEEDS, batch)
        totals.append(metrics["total"])
    expected, means, _ = alone(chosen, loss, 9)
    assert_close(state, expected)
    np.testing.assert_allclose(np.mean(totals), means["total"], rtol=1e-5)
    rows = Rows(np.arange(16), np.ones(16, np.float32), np.arange(16) + 7)
    placed = devices.place(gather(stored, rows))
    outside, weights = devices.measure_examples(state, Logits(), placed)
    single = steps.measure(
        chosen, Logits(), data(), expected, jax.tree.map(lambda x: x[None], rows)
    )
    assert_close(outside, single)
    np.testing.assert_array_equal(weights, rows.weight)
    rows = jax.tree.map(lambda x: x.reshape(1, 2, 8), rows)
    inside = program(chosen, "shard_map").measure(state, Logits(), rows)
    assert_close(jax.tree.map(lambda x: x[0], inside), outside)


def test_gradients_features_and_labels_are_all_that_is_sent():
    devices, loss = Parallel(task(norm=True), None, "shard_map"), one("isda(strength=0.5)")
    state = devices.init(loss, SEEDS)
    stored = jax.tree.map(np.asarray, data())
    batch = devices.place(gather(stored, Rows(np.arange(8), np.ones(8, np.float32))))
    sent = hlo.sent(devices.lower(state, loss, SEEDS, batch).compile().as_text())
    gradients = sum(x.nbytes for x in jax.tree.leaves(state.params))
    normalised = 4 * 4 * tiny_runs.WIDTH  # BatchNorm's sums: two forward, two backward
    scalars = 4 * 4
    assert gradients + normalised <= sent.pop("all-reduce") <= gradients + normalised + scalars
    assert sent == {"all-gather": 4 * 8 * (tiny_runs.WIDTH + tiny_runs.CLASSES)}


def test_stages_that_look_at_a_batch_look_at_that_of_all_devices():
    loss = rj.parse("isda(strength=0.5) | mixup(alpha=1.0) | noise_injection(sigma=0.1)")
    assert across(loss, "data") == rj.parse(
        "isda(strength=0.5, axis_name='data') | mixup(alpha=1.0, axis_name='data') | "
        "noise_injection(sigma=0.1)"
    )


@pytest.mark.parametrize(
    ("kind", "fsdp", "message"),
    [
        ("threads", 1, "config.parallelism is 'threads'; it can be jit, shard_map, pmap."),
        ("shard_map", 2, "config.fsdp=2 needs config.parallelism='jit', not 'shard_map'."),
        ("jit", 3, "config.fsdp is 3, but must divide the number of devices, which is 8."),
        ("jit", 0, "config.fsdp is 0, but must divide the number of devices, which is 8."),
    ],
)
def test_errors_say_what_to_do(kind, fsdp, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Parallel(task(), data(), kind, fsdp)
    assert str(error.value) == message
