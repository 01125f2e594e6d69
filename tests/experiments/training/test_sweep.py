"""Sweeps: equal to single runs, compiled once for all strengths."""

import jax
import numpy as np
import pytest
import tiny_runs
from support import assert_close
from tiny_runs import batches, data, task

import regjax as rj
from experiments.training import sweep
from experiments.training.task import Rows

SIZE, STEPS = 6, 4
NOISY = "cross_entropy | double_backprop(weight={}) | noise_injection(sigma=0.1)"
DRAWN = "cross_entropy | jacobian(weight={}, probes=1)"


def single(expression, seed, count):
    """One run, by the functions of steps.py alone."""
    chosen, loss = task(norm=True), tiny_runs.numbers(expression)
    state, seed = tiny_runs.start(chosen, loss, seed), np.uint32(seed)
    advance = tiny_runs.program(chosen)
    return advance(np.int32(count), state, loss, seed, batches(int(seed), SIZE, STEPS))[:2]


def swept(program, expression, strengths, seeds, count):
    losses = sweep.stack([rj.parse(expression.format(s)) for s in strengths])
    seeds = np.asarray(seeds, np.uint32)
    each = [batches(int(s), SIZE, STEPS) for s in seeds]
    rows = jax.tree.map(lambda *parts: np.stack(parts), *each)
    states = program.init(losses, seeds)
    return program.advance(states, losses, seeds, rows, count)[:2]


@pytest.mark.parametrize(
    ("strategy", "expression"),
    [("vmap", NOISY), ("map", NOISY), ("sharded", NOISY), ("vmap", DRAWN), ("map", DRAWN)],
)
def test_a_sweep_equals_single_runs(strategy, expression):
    """Of a network with BatchNorm, whose averages are neither the initial 0 nor 1."""
    strengths, seeds = (0.0, 0.1, 1.0, 0.5) * 2, (0, 1, 2, 3, 3, 2, 1, 0)
    program = sweep.Sweep(task(norm=True), data(), strategy)
    states, means = swept(program, expression, strengths, seeds, count=3)
    for i in (1, 4, 7):
        alone = single(expression.format(strengths[i]), seeds[i], 3)
        assert_close(jax.tree.map(lambda x, i=i: x[i], (states, means)), alone)
        assert not any(np.allclose(x, np.round(x)) for x in jax.tree.leaves(alone[0].model_state))
    assert not np.allclose(means["total"][0], means["total"][1], rtol=1e-3)


def test_one_program_serves_all_strengths_and_numbers_of_steps():
    program = sweep.Sweep(task(), data(), "map")
    for strength, count in ((0.1, 1), (0.2, 4)):
        states, _ = swept(program, NOISY, (strength, 2 * strength), (0, 1), count)
        np.testing.assert_array_equal(states.step, count)
    assert program._advance._cache_size() == 1


def test_training_learns_and_predicts_every_example():
    program = sweep.Sweep(task("adam", 0.05), data(), "map")
    losses, seeds = sweep.stack([rj.cross_entropy()] * 2), np.arange(2, dtype=np.uint32)
    states = program.init(losses, seeds)
    index = np.tile(np.arange(48, dtype=np.int32).reshape(8, SIZE), (2, 8, 1))
    rows = Rows(index, np.ones(index.shape, np.float32))
    states, first, _ = program.advance(states, losses, seeds, rows, 8)
    states, last, _ = program.advance(states, losses, seeds, rows, 64)
    assert (last["total"] < 0.6 * first["total"]).all()
    rows = jax.tree.map(lambda x: x[:, :8], rows)
    logits = program.measure(states, tiny_runs.Logits(), rows)["logits"]
    assert logits.shape == (2, 48, tiny_runs.CLASSES)
    assert (np.argmax(logits, -1) == np.asarray(data()["label"])[None]).mean() > 0.8


def test_errors_name_what_is_known():
    with pytest.raises(ValueError, match="unknown strategy 'pmap'; known are: vmap, map, sharded"):
        sweep.over_runs(lambda: None, "pmap")
    with pytest.raises(ValueError, match="differ only in numbers"):
        sweep.stack([rj.cross_entropy(), rj.l2(rj.cross_entropy(), weight=1.0)])
