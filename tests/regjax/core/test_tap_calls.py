"""Taps in layers that are traced once and run often are refused; what runs once is tapped once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support import assert_same

import regjax as rj

X = jnp.array([[1.0, 2.0], [3.0, 5.0]])
Body = Callable[[jax.Array], jax.Array]

# What a network may run its layer in; each doubles what comes in, up to three times.
REPEATED: dict[str, Callable[[Body, jax.Array], jax.Array]] = {
    "scan": lambda body, x: lax.scan(lambda h, _: (body(h), None), x, None, length=3)[0],
    "map": lambda body, x: lax.map(body, x[None])[0] + lax.map(body, jnp.stack([x, x]))[0],
    "fori_loop": lambda body, x: lax.fori_loop(0, 3, lambda _, h: body(h), x),
    "while_loop": lambda body, x: lax.while_loop(lambda h: jnp.sum(h) < 100, body, x),
    "cond": lambda body, x: lax.cond(jnp.sum(x) > 0, body, lambda h: h, x),
    "vmap": lambda body, x: jax.vmap(body)(jnp.stack([x, x, x])).sum(0),
    "vmap of examples": lambda body, x: jax.vmap(body)(x),
    "scan in jit": lambda body, x: jax.jit(lambda x: REPEATED["scan"](body, x))(x),
    "remat in scan": lambda body, x: REPEATED["scan"](jax.checkpoint(body), x),
    "scan in remat": lambda body, x: jax.checkpoint(lambda x: REPEATED["scan"](body, x))(x),
    "Python, under remat": lambda body, x: jax.checkpoint(lambda x: body(body(x)))(x),
}
ONCE: dict[str, Callable[[Body, jax.Array], jax.Array]] = {
    "nothing": lambda body, x: body(x),
    "remat": lambda body, x: jax.checkpoint(body)(x),
    "jit": lambda body, x: jax.jit(body)(x),
    "remat in jit": lambda body, x: jax.jit(jax.checkpoint(body))(x),
    "a scan of one": lambda body, x: lax.scan(lambda h, _: (body(h), None), x, None, length=1)[0],
    "a vmap of the parameters' function": lambda body, x: body(jax.vmap(lambda row: row)(x)),
}


def network(run: Any) -> rj.Forward:
    def fn(params: jax.Array, x: jax.Array, tap: Any) -> jax.Array:
        return params * run(lambda h: tap("block", 2 * h), x)

    return rj.from_function(fn, jnp.ones((1, 1)), layers=("block",))


@pytest.mark.parametrize("kind", REPEATED)
def test_what_runs_often_is_refused(kind: str) -> None:
    tapped = network(REPEATED[kind]).with_tap(lambda _, h: h + 1, layers=("block",))
    with pytest.raises(ValueError, match=r"'block' was to be tapped once, but") as caught:
        jax.eval_shape(tapped, X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ONCE)
def test_what_runs_once_is_tapped_once(kind: str) -> None:
    tapped = network(ONCE[kind]).with_tap(lambda _, h: h + 1, layers=("block",))
    expected = 2 * np.asarray(X) + 1
    assert_same(tapped(X).logits, jnp.asarray(expected))

    def total(params: jax.Array, x: jax.Array) -> jax.Array:
        return tapped.replace(params=params)(x).logits.sum()

    # In the trace of a derivative, of a compiled program and of many networks at once.
    assert_same(jax.jit(jax.grad(total))(tapped.params, X), jnp.full((1, 1), expected.sum()))
    many = jax.vmap(total, (0, None))(jnp.ones((2, 1, 1)), X)
    assert_same(many, jnp.full(2, expected.sum()))


def test_mixing_inside_a_loop_is_refused_and_around_it_works() -> None:
    batch = rj.Batch(X, jnp.eye(2))
    forward = network(REPEATED["scan"])
    for layers, words in ((("input",), None), (("block",), "inside scan.*Python loop")):
        loss = rj.manifold_mixup(rj.cross_entropy(), alpha=1.0, layers=layers)
        state = loss.init(forward, batch)
        if words is None:
            jax.eval_shape(loss.apply, state, forward, batch, jax.random.key(0))
        else:
            with pytest.raises(ValueError, match=words):
                jax.eval_shape(loss.apply, state, forward, batch, jax.random.key(0))


def test_a_look_at_every_iteration_is_free() -> None:
    seen = []
    network(REPEATED["scan"])(X, tap=lambda layer, h: seen.append(layer) or h)
    assert seen == ["input", "block"]
