"""Schedules as values: equal ones share one program, and others do not."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import regjax as rj

BUILT = {
    "linear": lambda end=0.5: optax.linear_schedule(0, end, 1000),
    "constant": lambda end=0.5: optax.constant_schedule(end),
    "array": lambda end=0.5: optax.constant_schedule(np.array(end)),
    "cosine": lambda end=0.5: optax.warmup_cosine_decay_schedule(0.0, end, 3, 10),
    "pieces": lambda end=0.5: optax.piecewise_constant_schedule(1.0, {3: end}),
    "joined": lambda end=0.5: optax.join_schedules(
        [optax.constant_schedule(1.0), optax.linear_schedule(1.0, end, 3)], [2]
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_equal_schedules_share_a_program_and_others_do_not(name: str) -> None:
    traces = []

    @jax.jit
    def program(loss: rj.Loss) -> jax.Array:
        traces.append(loss)
        return jnp.asarray(loss.stages[0].keywords(jnp.array(5))["strength"])

    first, second, other = (rj.isda(strength=BUILT[name](end)) for end in (0.5, 0.5, 0.25))
    assert first == second
    assert first != other
    values = [program(loss) for loss in (first, second, other)]
    assert len(traces) == 2
    assert values[0] == values[1] != values[2]
    assert values[0] == jnp.asarray(BUILT[name]()(jnp.array(5)))


def test_numbers_that_compare_equal_are_told_apart() -> None:
    """An integer schedule computes in integers, and 1 == 1.0 == True."""
    each = [rj.isda(strength=optax.constant_schedule(value)) for value in (1, 1.0, True, -0.0, 0.0)]
    assert all(a != b for i, a in enumerate(each) for b in each[:i])


def test_a_users_own_function_is_equal_to_itself_only() -> None:
    rate = 0.5

    def make() -> optax.Schedule:
        return lambda step: rate * step

    own = make()
    assert rj.isda(strength=own) == rj.isda(strength=own)
    assert rj.isda(strength=own) != rj.isda(strength=make())
    joined = [optax.join_schedules([each, own], [2]) for each in (own, own, make())]
    losses = [rj.isda(strength=each) for each in joined]
    assert losses[0] == losses[1] != losses[2]


def test_schedules_are_taken_from_one_loss_to_another() -> None:
    first = rj.isda(strength=BUILT["linear"]())
    second = rj.isda(strength=first.stages[0].arguments["strength"])
    assert first == second
    program = jax.jit(chex.assert_max_traces(lambda loss: 0, n=1))
    assert program(first) == program(second)


def test_schedules_print_readably() -> None:
    linear = "polynomial_schedule(end_value=0.5, init_value=0, power=1, transition_begin=0"
    assert repr(rj.isda(strength=BUILT["linear"]())).startswith(f"isda(strength={linear}")
    joined = repr(rj.isda(strength=BUILT["joined"]()))
    assert "schedules=[constant_schedule(value=1.0), polynomial_schedule(" in joined
    assert " at 0x" not in joined + repr(rj.isda(strength=lambda step: 0.5))
