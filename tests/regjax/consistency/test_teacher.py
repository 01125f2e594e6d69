"""The mean teacher, in float64: its average, its statistics, and what it does not do."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import (
    CONV_SHAPE,
    ConvNet,
    assert_close,
    assert_same,
    random_batch,
    tanh_forward,
    tanh_params,
)

import regjax as rj
from regjax.consistency import squared_distance

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def _x64(request: pytest.FixtureRequest) -> Iterator[None]:
    """But for networks of Flax, which are float32."""
    with jax.enable_x64(request.node.get_closest_marker("nnx") is None):
        yield


def both_streams(dtype: Any = jnp.float64, **options: Any) -> rj.Batch:
    options["dtype"] = dtype
    return random_batch(4, **options).replace(unlabeled=random_batch(6, **options | {"seed": 2}))


def params_of(seed: int) -> dict[str, Any]:
    return tanh_params(seed, jnp.float64)


def test_the_teacher_is_the_mean_at_first_and_a_decaying_average_later() -> None:
    loss = rj.parse("cross_entropy | mean_teacher(weight=1, decay=0.75)")
    batch = both_streams()
    networks = [params_of(seed) for seed in range(7)]
    state = loss.init(tanh_forward(networks[0]), batch)
    mean: dict[str, Any] = {}
    for n, params in enumerate(networks):
        forward = tanh_forward(params)
        result, state = loss.apply(state, forward, batch, KEY)
        keep = min(1 - 1 / (n + 1), 0.75)
        mean = jax.tree.map(
            lambda new, old, keep=keep: keep * old + (1 - keep) * np.float64(new),
            params,
            mean or jax.tree.map(np.zeros_like, params),
        )
        teacher = state.stages["mean_teacher"]
        assert_close(teacher.params, mean, jnp.float64)
        assert teacher.steps == n + 1
        said = rj.taught(forward, state)(batch.unlabeled.image).logits
        expected = squared_distance(forward(batch.unlabeled.image).logits, said)
        # With the network of this step in it.
        assert_close(result.unlabeled["mean_teacher"], expected, jnp.float64)
        if n == 3:
            plain = jax.tree.map(lambda *x: np.mean(x, 0), *networks[:4])
            assert_close(teacher.params, plain, jnp.float64)


def test_a_network_that_stays_is_its_own_teacher_exactly() -> None:
    loss, batch = rj.parse("cross_entropy | mean_teacher(weight=1)"), both_streams()
    forward = tanh_forward(params_of(0))
    state = loss.init(forward, batch)
    for _ in range(3):
        result, state = loss.apply(state, forward, batch, KEY)
    assert_same(state.stages["mean_teacher"].params, forward.params)
    assert_same(result.unlabeled["mean_teacher"], jnp.zeros(6))


def test_the_teacher_gets_no_gradient() -> None:
    loss, batch = rj.parse("cross_entropy | mean_teacher(weight=1, decay=0.5)"), both_streams()
    state = loss.init(tanh_forward(params_of(1)), batch)
    _, state = loss.apply(state, tanh_forward(params_of(1)), batch, KEY)

    def value(params: Any) -> jax.Array:
        result, _ = loss.apply(state, tanh_forward(params), batch, KEY)
        return result.unlabeled["mean_teacher"].sum()

    def against_a_target(params: Any) -> jax.Array:
        forward = tanh_forward(params)
        return squared_distance(forward(batch.unlabeled.image).logits, target).sum()

    # At the second step the teacher is the mean of two networks, of which one is trained.
    params = params_of(0)
    _, after = loss.apply(state, tanh_forward(params), batch, KEY)
    target = rj.taught(tanh_forward(params), after)(batch.unlabeled.image).logits
    found, expected = (jax.grad(function)(params) for function in (value, against_a_target))
    assert_close(found, expected, jnp.float64)


@pytest.mark.nnx
@pytest.mark.parametrize("batch_norm", ["batch", "frozen"])
def test_the_teacher_keeps_averages_of_its_own(batch_norm: str) -> None:
    from flax import nnx

    import regjax.flax

    forward = regjax.flax.bind(ConvNet(nnx.Rngs(0)), head="head")
    batch = both_streams(jnp.float32, shape=CONV_SHAPE)
    loss = rj.parse(f"cross_entropy | mean_teacher(weight=1, batch_norm='{batch_norm}')")
    state = loss.init(forward, batch)
    result, state = jax.jit(loss.apply)(state, forward, batch, KEY)
    own = state.stages["mean_teacher"].averages
    moved = [
        np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (own, forward.state)), strict=True)
    ]
    assert any(moved) == (batch_norm == "batch")
    assert_close(rj.taught(forward, state).state, own)
    # The network's own are those of both streams, one after the other.
    alone = rj.parse("cross_entropy")
    one, _ = alone.apply(alone.init(forward, batch), forward, batch, KEY)
    apart = zip(*map(jax.tree.leaves, (result.outputs.state, one.outputs.state)), strict=True)
    assert any(np.any(a != b) for a, b in apart)


@pytest.mark.nnx
def test_its_averages_move_in_every_part_of_a_batch() -> None:
    """As the network's own do; parts that take no part would leave them behind."""
    loss = rj.parse("cross_entropy | mean_teacher(weight=1)")
    assert loss.in_parts() == {"mean_teacher"}


def test_a_loss_without_a_teacher_says_so() -> None:
    loss, batch = rj.parse("cross_entropy"), both_streams()
    with pytest.raises(ValueError, match="has no teacher 'mean_teacher'"):
        rj.taught(tanh_forward(), loss.init(tanh_forward(), batch))
