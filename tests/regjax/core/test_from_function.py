"""`from_function` with a state: trained, frozen, kept in its shape."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same

import regjax as rj

X = jnp.array([[1.0, 2.0], [3.0, 6.0]])
PARAMS = jnp.array([[1.0, 0.0], [0.0, -1.0]])


def centred(params: Any, state: Any, x: jax.Array, frozen: bool, tap: Any = None) -> Any:
    """Less the batch's mean in training, less the running one in evaluation."""
    mean = x.mean(0)
    h = x - (state["mean"] if frozen else mean)[None]
    h = h if tap is None else tap("hidden", h)
    return (h @ params, h), {"mean": 0.5 * state["mean"] + 0.5 * mean}


def forward() -> rj.Forward:
    state = {"mean": jnp.array([1.0, 1.0])}
    return rj.from_function(centred, PARAMS, lambda p: (p, None), ("hidden",), state=state)


def test_a_state_moves_in_training_and_stands_still_in_evaluation() -> None:
    network, x = forward(), np.asarray(X)
    outputs = jax.jit(lambda f, x: f(x))(network, X)
    assert_close(outputs.logits, jnp.asarray((x - x.mean(0)) @ np.asarray(PARAMS)))
    assert_close(outputs.state, {"mean": jnp.asarray(0.5 + 0.5 * x.mean(0))})
    frozen = network.frozen()(X)
    assert_close(frozen.logits, jnp.asarray((x - 1) @ np.asarray(PARAMS)))
    assert_same(frozen.state, network.state)
    doubled = network.with_tap(lambda _, h: 2 * h, layers=("hidden",))
    assert_close(doubled(X).logits, 2 * outputs.logits)


def test_penalties_may_look_at_the_averages() -> None:
    batch = rj.Batch(X, jnp.eye(2))
    values = []
    for mode in ("batch", "frozen"):
        loss = rj.parse(f"cross_entropy | double_backprop(weight=1, batch_norm='{mode}')")
        result, _ = loss.apply(loss.init(forward(), batch), forward(), batch, jax.random.key(0))
        values.append(result.penalties["double_backprop"].mean())
    assert abs(values[0] - values[1]) > 1e-3


def test_mistakes() -> None:
    grows = rj.from_function(
        lambda params, state, x, frozen: (x, (*state, x)), None, state=(jnp.ones(1),)
    )
    bare = rj.from_function(lambda params, state, x, frozen: x, None, state=jnp.ones(1))
    for call, error, words in [
        (
            lambda: rj.from_function(lambda params, state, x: (x, state), None, state=X),
            ValueError,
            r"takes no keyword 'frozen'.*fn\(params, state, x, frozen\)",
        ),
        (lambda: grows(X), ValueError, "must keep its shapes, but 1 was not there"),
        (lambda: bare(X), TypeError, r"must return \(logits, next state\).*ArrayImpl"),
    ]:
        with pytest.raises(error, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_state_that_is_printed_is_its_shapes() -> None:
    assert repr(forward()).splitlines() == [
        "Forward of 4 parameters",
        "  params : float32[2, 2]",
        "  state mean: float32[2]",
        "  layers: ('input', 'hidden')",
    ]
