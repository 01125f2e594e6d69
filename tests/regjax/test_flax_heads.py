"""Auxiliary heads of Flax models, named to `bind` or returned by the model: part of `flax.py`."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx
from support import CLASSES, CONV_SHAPE, assert_close, random_batch

import regjax as rj
from regjax.flax import bind

pytestmark = pytest.mark.nnx

KEY = jax.random.key(0)
BATCH = random_batch(4, shape=CONV_SHAPE)
X = BATCH.image


class Forked(nnx.Module):
    """BatchNorm, then two heads; it returns what the mode says, and in evaluation logits alone."""

    def __init__(self, mode: str = "logits", **options: Any) -> None:
        rngs = nnx.Rngs(0)
        self.norm = nnx.BatchNorm(1, rngs=rngs)
        self.first = nnx.Linear(16, 5, rngs=rngs, **options)
        self.aside = nnx.Linear(5, CLASSES, rngs=rngs, **options)
        self.head = nnx.Linear(5, CLASSES, rngs=rngs, **options)
        self.mode = mode

    def __call__(self, x: jax.Array) -> Any:
        h = jnp.tanh(self.first(self.norm(x).reshape(len(x), -1)))
        if self.norm.use_running_average:
            return self.head(h)
        aside, logits = self.aside(h), self.head(2 * h)
        if self.mode == "some":
            return logits, None, (aside, aside)
        return logits if self.mode == "logits" else (logits, None, (3 * aside,))


class LinenForked(linen.Module):
    """The same, always in training."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = jnp.tanh(linen.Dense(5, name="first")(x.reshape(len(x), -1)))
        linen.Dense(CLASSES, name="aside")(h)
        return linen.Dense(CLASSES, name="head")(2 * h)


def nnx_forward(mode: str = "logits", **options: Any) -> rj.Forward:
    return bind(Forked(mode, **options), head="head", auxiliary=("aside",))


def linen_forward() -> rj.Forward:
    model = LinenForked()
    return bind(model, model.init(KEY, X), head="head", auxiliary=("aside",))


@pytest.mark.parametrize(
    ("make", "factor"),
    [(nnx_forward, 1.0), (lambda: nnx_forward("returned"), 3.0), (linen_forward, 1.0)],
)
def test_branches_are_made_of_the_layers_that_are_named(make: Any, factor: float) -> None:
    """Three times the layer's output where the model returns that."""
    forward = make()
    outputs = jax.jit(lambda forward: forward(X))(forward)
    (branch,), (head,) = outputs.auxiliary, forward.auxiliary_heads
    assert_close(2 * branch.features, outputs.features)
    assert_close(factor * (branch.features @ head.kernel + head.bias[None]), branch.logits)
    own = outputs.features @ forward.head.kernel + forward.head.bias[None]
    assert_close(own, outputs.logits)


def test_what_the_model_returns_needs_no_name() -> None:
    forward = bind(Forked("returned"), head="head")
    (branch,) = jax.eval_shape(forward, X).auxiliary
    assert (branch.logits.shape, branch.features) == ((4, CLASSES), None)
    assert forward.auxiliary_heads == ()


def test_a_model_that_leaves_its_heads_out_in_evaluation_has_no_branches() -> None:
    forward = nnx_forward()
    assert jax.eval_shape(forward.frozen(), X).auxiliary == ()
    assert len(forward.frozen().auxiliary_heads) == 1
    # A tap of all layers is a tap of this one: what flows is what the branch has.
    zeroed = forward.with_tap(lambda _, h: jnp.zeros_like(h), layers=("aside",))
    assert not jnp.any(zeroed(X).auxiliary[0].logits)


def test_branches_are_of_the_type_that_the_network_computes_in() -> None:
    forward = nnx_forward(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    (branch,) = jax.eval_shape(forward, X).auxiliary
    assert (branch.logits.dtype, branch.features.dtype) == (jnp.bfloat16, jnp.bfloat16)


def test_some_branches_and_not_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"heads \['aside'\], of which it calls 1 and returns 2"):
        jax.eval_shape(nnx_forward("some"), X)
    two = bind(Forked(), auxiliary=("aside", "head"))
    with pytest.raises(ValueError, match=r"'head'\], of which it calls 1 and returns 0"):
        jax.eval_shape(two.frozen(), X)


def test_a_base_trains_both_heads() -> None:
    @rj.base
    def both(outputs, batch):
        z = (outputs.logits, *(branch.logits for branch in outputs.auxiliary))
        terms = [-jnp.sum(batch.label * jax.nn.log_softmax(logits), -1) for logits in z]
        return terms[0] + 0.4 * sum(terms[1:])

    forward, loss = nnx_forward(), both()

    @jax.jit
    def gradient(params: Any) -> Any:
        bound = forward.replace(params=params)
        result, _ = loss.apply(loss.init(bound, BATCH), bound, BATCH, KEY)
        return rj.total(result, BATCH)

    slope = jax.grad(gradient)(forward.params)
    (branch,), label = forward(X).auxiliary, BATCH.label
    by_logits = 0.4 * (jax.nn.softmax(branch.logits) - label) / len(X)
    assert_close(slope["aside"]["kernel"], branch.features.T @ by_logits)
    assert jnp.any(slope["head"]["kernel"] != 0)
