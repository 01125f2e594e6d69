"""The Pi-model and the entropy on unlabelled images, by hand; also covers `second.py`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward, tanh_params

import regjax as rj
from regjax.consistency import prediction_entropy, squared_distance

KEY = jax.random.key(5)
FORWARD = tanh_forward()


def both_streams() -> rj.Batch:
    unlabeled = random_batch(8, seed=2)
    return random_batch(4).replace(unlabeled=unlabeled.replace(label=0 * unlabeled.label))


def applied(text: str, forward: rj.Forward = FORWARD, batch: rj.Batch | None = None) -> rj.Result:
    loss, batch = rj.parse(text), both_streams() if batch is None else batch
    return loss.apply(loss.init(forward, batch), forward, batch, KEY)[0]


@pytest.mark.parametrize("stage", ["pi_model", "mean_teacher"])
@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ("random_flip", r"shared must be a tuple of names, such as \('random_flip',\)"),
        (3, "shared must be a tuple of names"),
        (("random_flop",), "no wrapper 'random_flop'"),
        (("isda",), "no wrapper 'isda'"),
    ],
)
def test_names_of_no_wrapper_are_refused(stage: str, shared: Any, said: str) -> None:
    loss = getattr(rj, stage)(rj.cross_entropy(), weight=1.0, shared=shared)
    batch = random_batch(4).replace(unlabeled=random_batch(4))
    with pytest.raises((TypeError, ValueError), match=said):
        jax.eval_shape(loss.apply, loss.init(tanh_forward(), batch), tanh_forward(), batch, KEY)


def slope_of_second_view(both: bool) -> jax.Array:
    """Of the distance by a shift of the logits that only every second run of the network has."""
    runs: list[int] = []

    def objective(shift: jax.Array) -> jax.Array:
        runs.clear()

        def network(params: None, x: jax.Array) -> jax.Array:
            runs.append(1)
            z = jnp.sin(x.reshape(len(x), -1))[:, :3]
            return z + (shift if len(runs) == 3 else 0 * shift)[None]

        text = f"cross_entropy | noise_injection(sigma=0.5) | pi_model(weight=1, both={both})"
        result = applied(text, rj.from_function(network, None))
        return result.unlabeled["pi_model"].sum()

    return jax.grad(objective)(jnp.array([0.1, 0.0, -0.1]))


def test_gradients_flow_through_both_views_unless_told_otherwise() -> None:
    assert float(jnp.abs(slope_of_second_view(both=True)).sum()) > 1e-3
    assert_same(slope_of_second_view(both=False), jnp.zeros(3))


def test_equal_views_are_not_apart() -> None:
    def value(params: dict) -> jax.Array:
        return (
            applied("cross_entropy | pi_model(weight=1)", tanh_forward(params))
            .unlabeled["pi_model"]
            .sum()
        )

    found, slope = jax.value_and_grad(value)(tanh_params())
    assert found == 0
    assert_same(slope, jax.tree.map(jnp.zeros_like, slope))


def test_wrappers_that_are_shared_draw_alike() -> None:
    text = "cross_entropy | random_flip | pi_model(weight=1, shared={})"
    assert_same(applied(text.format("('random_flip',)")).unlabeled["pi_model"], jnp.zeros(8))
    assert jnp.any(applied(text.format("()")).unlabeled["pi_model"] > 0)


def test_the_distance_is_that_of_two_draws() -> None:
    seen: list[jax.Array] = []

    def network(params: None, x: jax.Array) -> jax.Array:
        seen.append(x)
        return x.reshape(len(x), -1)[:, :3]

    text = "cross_entropy | noise_injection(sigma=0.5) | pi_model(weight=1)"
    result = applied(text, rj.from_function(network, None))
    views = [x.reshape(len(x), -1)[:, :3] for x in seen[-2:]]
    assert_close(result.unlabeled["pi_model"], squared_distance(*views))
    assert jnp.all(views[0] != views[1])


def test_penalties_of_the_first_view_share_its_pass() -> None:
    text = "isda(strength=0.5) | entropy(weight=1) | entropy(weight=2)"
    text += " | semantic_consistency(weight=1)"
    batch, passes = both_streams(), []

    def network(params: dict, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        passes.append(len(x))
        features = jnp.tanh(x.reshape(len(x), -1) @ params["w"])
        return features @ params["head"], features

    params = {"w": jnp.ones((8, 5)) / 4, "head": jnp.eye(5)[:, :3]}
    forward = rj.from_function(network, params, head=lambda p: (p["head"], None))
    loss = rj.parse(text)
    state = loss.init(forward, batch)
    passes.clear()
    result, _ = loss.apply(state, forward, batch, KEY)
    assert passes.count(8) == 1
    expected = prediction_entropy(forward(batch.unlabeled.image).logits)
    assert_close(result.unlabeled["entropy"], expected)
    assert_close(result.unlabeled["entropy_2"], 2 * expected)


@pytest.mark.parametrize(("averages", "labelled_only"), [("moved", False), ("kept", True)])
def test_the_first_view_moves_averages_after_the_batch(averages: str, labelled_only: bool) -> None:
    def network(params: None, state: jax.Array, x: jax.Array) -> rj.Outputs:
        z = x.reshape(len(x), -1)[:, :3]
        return rj.Outputs(z, state=0.9 * state + 0.1 * z.mean())

    apply = lambda params, state, x, key, tap, frozen: network(params, state, x)  # noqa: E731
    forward = rj.Forward(None, jnp.float32(2.0), apply)
    batch = both_streams()
    text = f"cross_entropy | entropy(weight=1, averages='{averages}')"
    found = applied(text, forward, batch).outputs.state
    first, second = (
        np.float64(b.image).reshape(-1, 8)[:, :3].mean() for b in (batch, batch.unlabeled)
    )
    after_batch = 0.9 * 2.0 + 0.1 * first
    assert_close(found, after_batch if labelled_only else 0.9 * after_batch + 0.1 * second)


def test_what_is_missing_or_unknown_is_said() -> None:
    plain = random_batch(4)
    with pytest.raises(ValueError, match=r"pi_model needs batch\.unlabeled"):
        applied("cross_entropy | pi_model(weight=1)", batch=plain)
    with pytest.raises(ValueError, match="averages must be 'moved' or 'kept', but it is 'no'"):
        applied("cross_entropy | entropy(weight=1, averages='no')")
