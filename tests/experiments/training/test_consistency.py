"""Teachers, ensembles and ISDA's statistics in every way of training, and who is evaluated."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from support import assert_close, assert_same
from tiny_runs import batches, data, numbers, start, task

import regjax as rj
from experiments.training import sweep
from experiments.training.parallel import Parallel
from experiments.training.task import Rows

SEED, STEPS = 3, 2
SEEDS = np.array([SEED], np.uint32)
LOSS = (
    "isda(strength=0.5) | noise_injection(sigma=0.1) | semantic_consistency(weight=0.3)"
    " | temporal_ensembling(weight=0.5, images=48) | mean_teacher(weight=0.4, decay=0.5)"
    " | vat(weight=0.2, epsilon=0.3)"
)


def rows() -> Rows:
    """The same unlabelled images in both steps, which so have a target in the second."""
    other = jax.tree.map(lambda x: np.stack([x[0]] * STEPS), batches(7, 16, STEPS))
    return batches(0, 16, STEPS)._replace(unlabeled=other)


def trained(loss: str = LOSS, **options: Any) -> Any:
    chosen = task(norm=True, **options)
    state = start(chosen, numbers(loss), SEED)
    return tiny_runs.program(chosen)(np.int32(STEPS), state, numbers(loss), SEEDS[0], rows())


def one(loss: str) -> Any:
    return jax.tree.map(lambda x: np.float32([x]), rj.parse(loss))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "fsdp"), [("jit", 1), ("jit", 4), ("shard_map", 1), ("pmap", 1)])
def test_all_devices_equal_one(kind: str, fsdp: int) -> None:
    program = Parallel(task(norm=True), data(), kind, fsdp)
    state = program.init(one(LOSS), SEEDS)
    many = jax.tree.map(lambda x: x[None], rows())
    found, expected = program.advance(state, one(LOSS), SEEDS, many, STEPS), trained()
    assert_close(found[0], expected[0])
    assert_close(jax.tree.map(lambda x: x[0], found[1]), expected[1])
    if fsdp > 1:  # a teacher lies as the parameters do
        teacher = found[0].loss_state.stages["mean_teacher"].params
        assert not teacher["hidden"]["kernel"].sharding.is_fully_replicated


@pytest.mark.slow
def test_parts_of_a_batch_move_a_teacher_once_and_see_each_image_once() -> None:
    """Without BatchNorm, of which each part is a batch of its own, and with draws by image."""
    loss = "cross_entropy | temporal_ensembling(weight=0.5, images=48) | mean_teacher(weight=0.4)"
    whole, parts = (
        tiny_runs.program(chosen)(
            np.int32(STEPS), start(chosen, numbers(loss), SEED), numbers(loss), SEEDS[0], rows()
        )
        for chosen in (task(), task(accumulate=4))
    )
    assert_close(parts[:2], whole[:2])
    assert parts[0].loss_state.stages["mean_teacher"].steps == STEPS


@pytest.mark.slow
def test_a_sweep_equals_a_run_alone() -> None:
    program = sweep.Sweep(task(norm=True), data(), "vmap")
    losses = sweep.stack([rj.parse(LOSS.replace("0.2", str(s))) for s in (0.2, 1.0)])
    seeds = np.repeat(SEEDS, 2)
    many = jax.tree.map(lambda x: np.stack([x, x]), rows())
    states, means, _ = program.advance(program.init(losses, seeds), losses, seeds, many, STEPS)
    assert_close(jax.tree.map(lambda x: x[0], (states, means)), trained()[:2])


@pytest.mark.slow
def test_bfloat16_keeps_teacher_and_ensemble_in_float32() -> None:
    state = trained(dtype=jnp.bfloat16)[0]
    kept = state.loss_state.stages
    arrays = jax.tree.leaves((kept["mean_teacher"], kept["temporal_ensembling"]))
    assert {x.dtype for x in arrays} == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert_close(
        kept["mean_teacher"].params,
        trained()[0].loss_state.stages["mean_teacher"].params,
        jnp.bfloat16,
    )


def test_the_teacher_is_evaluated_where_that_is_asked_for() -> None:
    chosen = task(norm=True)
    loss = numbers("cross_entropy | mean_teacher(weight=0.4, decay=0.5)")
    state = start(chosen, loss, SEED)
    teacher = state.loss_state.stages["mean_teacher"]
    moved = teacher._replace(params=jax.tree.map(lambda x: x + 1, teacher.params))
    stages = {"mean_teacher": moved}
    state = state._replace(loss_state=state.loss_state._replace(stages=stages))
    assert_same(chosen.network(state).params, state.params)
    taught = dataclasses.replace(chosen, taught=True)
    assert_same(taught.network(state).params, moved.params)
    assert taught.network(state).is_frozen
    plain = start(chosen, numbers("cross_entropy"), SEED)
    assert_same(taught.network(plain).params, plain.params)
