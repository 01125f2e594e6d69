"""Unlabelled images beside the labelled ones, in every way of training (memory.py, parallel.py)."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
import tiny_runs
import toys  # noqa: F401 - its stages
from support import assert_close
from tiny_runs import batches, data, numbers, start, task

import regjax as rj
from experiments.training import sweep
from experiments.training.parallel import Parallel
from experiments.training.task import Rows, gather

SEED, STEPS = 3, 2
LOSS = "isda(strength=0.5) | semantic_consistency(weight=0.3)"
SEEDS = np.array([SEED], np.uint32)


def rows(size: int = 16) -> Rows:
    """As many images without a label as with one."""
    other = batches(7, size, STEPS)
    return batches(0, size, STEPS)._replace(unlabeled=other)


@functools.cache
def alone() -> Any:
    chosen = task(norm=True)
    state = start(chosen, numbers(LOSS), SEED)
    return tiny_runs.program(chosen)(np.int32(STEPS), state, numbers(LOSS), SEEDS[0], rows())


def one(loss: str) -> Any:
    return jax.tree.map(lambda x: np.float32([x]), rj.parse(loss))


def test_the_second_stream_counts_and_its_labels_do_not():
    chosen, loss = task(norm=True), numbers(LOSS)
    state = start(chosen, loss, SEED)
    advance = tiny_runs.program(chosen)
    found = alone()
    others = rows()._replace(unlabeled=batches(8, 16, STEPS))
    changed = advance(np.int32(STEPS), state, loss, SEEDS[0], others)
    assert not np.allclose(found[1]["total"], changed[1]["total"], rtol=1e-4)
    batch = chosen.batch(gather(data(), jax.tree.map(lambda x: x[0], rows())))
    assert not np.asarray(batch.unlabeled.label).any()
    np.testing.assert_array_equal(batch.unlabeled.index, rows().unlabeled.index[0])


@pytest.mark.parametrize(
    ("kind", "fsdp"),
    [
        pytest.param("jit", 4, marks=pytest.mark.slow),
        ("shard_map", 1),
        pytest.param("pmap", 1, marks=pytest.mark.slow),
    ],
)
def test_all_devices_equal_one(kind, fsdp):
    program = Parallel(task(norm=True), data(), kind, fsdp)
    state = program.init(one(LOSS), SEEDS)
    many = jax.tree.map(lambda x: x[None], rows())
    found = program.advance(state, one(LOSS), SEEDS, many, STEPS)
    assert_close(found[0], alone()[0])
    assert_close(jax.tree.map(lambda x: x[0], found[1]), alone()[1])


def test_streamed_examples_equal_those_in_memory():
    program = Parallel(task(norm=True), None, "shard_map")
    state, stored = program.init(one(LOSS), SEEDS), jax.tree.map(np.asarray, data())
    for i in range(STEPS):
        examples = gather(stored, jax.tree.map(lambda x, i=i: x[i], rows()))
        state, _ = program.step(state, one(LOSS), SEEDS, program.place(examples))
    assert_close(state, alone()[0])


@pytest.mark.parametrize("strategy", [pytest.param("map", marks=pytest.mark.slow), "vmap"])
def test_a_sweep_equals_a_run_alone(strategy):
    program = sweep.Sweep(task(norm=True), data(), strategy)
    strengths = (0.5, 1.0)
    losses = sweep.stack([rj.parse(LOSS.replace("0.5", str(s))) for s in strengths])
    seeds = np.repeat(SEEDS, 2)
    many = jax.tree.map(lambda x: np.stack([x, x]), rows())
    states, means, _ = program.advance(program.init(losses, seeds), losses, seeds, many, STEPS)
    first = jax.tree.map(lambda x: x[0], (states, means))
    assert_close(first, alone()[:2])
    assert not np.allclose(means["total"][0], means["total"][1], rtol=1e-5)


def test_parts_of_a_batch_have_their_share_of_the_second_stream():
    chosen, loss = task(accumulate=4), "cross_entropy | seen(weight=1.0)"

    @functools.partial(rj.penalty, init=lambda forward, batch, **_: np.zeros(48, np.float32))
    def seen(batch, state, part):
        del part  # asked for, so that the state is carried from part to part
        count = state.at[batch.unlabeled.index].add(1.0)
        return 0.0 * batch.image.reshape(len(batch.image), -1).sum(-1), count

    state = tiny_runs.run(chosen, loss, rows())[0]
    expected = np.bincount(rows().unlabeled.index.ravel(), minlength=48)
    np.testing.assert_array_equal(state.loss_state.stages["seen"], expected)


AGREEING = "cross_entropy | agreeing_views(weight=1.0) | noise_injection(sigma=0.1)"


def padded() -> Rows:
    """Labelled images that are mostly padding, and on some devices nothing else."""
    given = rows()
    weight = given.weight.copy()
    weight[:, 5:] = 0
    weight[1, :2] = 0.5
    return given._replace(weight=weight)


def agreed(accumulate: int = 1) -> Any:
    chosen = task(accumulate=accumulate)
    state = start(chosen, numbers(AGREEING), SEED)
    advance = tiny_runs.program(chosen)
    return advance(np.int32(STEPS), state, numbers(AGREEING), SEEDS[0], padded())


@pytest.mark.parametrize("kind", ["jit", "shard_map"])
def test_a_term_of_unlabelled_images_is_a_mean_over_them_wherever_they_are(kind):
    expected = agreed()
    program = Parallel(task(), data(), kind)
    state = program.init(one(AGREEING), SEEDS)
    many = jax.tree.map(lambda x: x[None], padded())
    found = program.advance(state, one(AGREEING), SEEDS, many, STEPS)
    assert_close(found[0], expected[0])
    assert_close(jax.tree.map(lambda x: x[0], found[1]), expected[1])


def test_a_term_of_unlabelled_images_is_their_mean_in_parts_of_a_batch_too():
    assert_close(agreed(accumulate=4), agreed())
