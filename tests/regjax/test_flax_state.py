"""A bound model's state: what was there at `bind`, whatever else the model collects."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx
from support import CONV_SHAPE, ConvNet, assert_close, assert_same, random_batch

import regjax as rj
import regjax.flax as rf
from regjax.flax import bind

pytestmark = pytest.mark.nnx

KEY = jax.random.key(0)
X = jnp.array([[1.0, 2.0], [3.0, 5.0]])


class Sows(nnx.Module):
    """Shows what it computes, by itself and out of a layer of its own."""

    def __init__(self, rngs: nnx.Rngs, kind: type = nnx.Intermediate) -> None:
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.kind = kind

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.norm(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # to sow outside of a capture is deprecated
            self.sow(self.kind, "hidden", h)
            self.norm.sow(self.kind, "normed", h)
        return h


class Seen(nnx.Variable):
    """What a model of somebody's own collects."""


class SowsLinen(linen.Module):
    collection: str = "intermediates"

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = linen.BatchNorm(use_running_average=False)(x)
        self.sow(self.collection, "hidden", h)
        return h


def steps(forward: rj.Forward) -> None:
    """The loop of the first page: three steps, one compiled program."""

    @jax.jit
    def step(state: Any) -> Any:
        return forward.replace(state=state)(X, KEY).state

    state = forward.state
    for _ in range(3):
        state = step(state)
    assert jax.tree.structure(state) == jax.tree.structure(forward.state)
    assert step._cache_size() == 1
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.any(a != b), state, forward.state))
    assert moved
    assert all(moved)


@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.parametrize("kind", [nnx.Intermediate, Seen])
def test_an_nnx_model_that_sows_trains(called_before: bool, kind: type) -> None:
    model = Sows(nnx.Rngs(0), kind)
    if called_before:
        model(X)
        if kind is Seen:  # only the model knows whether this is state
            with pytest.raises(ValueError, match=r"hidden\.1 was not there and is \(2, 2\).*pop"):
                bind(model)(X)
            nnx.pop(model, Seen)
    steps(bind(model))
    assert hasattr(model, "hidden") == (called_before and kind is nnx.Intermediate)


def test_a_linen_model_that_sows_trains() -> None:
    model = SowsLinen()
    variables = model.init(KEY, X)
    steps(bind(model, variables))
    _, shown = model.apply(variables, X, mutable=["intermediates", "batch_stats"])
    steps(bind(model, variables | shown))
    own = SowsLinen("seen")
    variables = own.init(KEY, X)
    with pytest.raises(ValueError, match=r"seen\.hidden\.1 was not there"):
        bind(own, variables)(X)
    variables.pop("seen")
    steps(bind(own, variables))


def test_what_was_trained_goes_back_into_the_model() -> None:
    model, other = ConvNet(nnx.Rngs(0)), ConvNet(nnx.Rngs(1))
    forward = bind(model, head="head")
    params = jax.tree.map(lambda w: w + 1, forward.params)
    trained = forward.replace(params=params, state=jax.tree.map(lambda s: s + 2, forward.state))
    for each in (model, other):
        rf.update(each, trained)
        assert_same(bind(each).params, trained.params)
        assert_same(bind(each).state, trained.state)
    image = random_batch(2, shape=CONV_SHAPE).image
    model.eval()
    assert_close(model(image), trained.frozen()(image).logits)
    with pytest.raises(ValueError, match="params of the Forward are not those of this Linear"):
        rf.update(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), trained)


class Told(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool, deterministic: bool = True) -> jax.Array:
        x = linen.BatchNorm(use_running_average=not train)(x)
        return linen.Dropout(0.5, deterministic=deterministic)(x)


def test_a_linen_call_that_must_be_told_whether_it_trains_says_what_to_pass() -> None:
    model = Told()
    variables = model.init(KEY, X, train=False)
    told: dict[str, Any] = {"training": {"train": True}, "frozen": {"train": False}}
    for keywords, words in [
        ({}, r"'train'.*variables, training=\{'train': True\}, frozen=\{'train': False\}\)"),
        ({"training": {"train": True}}, r"'train'.*variables, frozen=\{'train': False\}\)"),
        (told, r"training=\{'deterministic': False\}, frozen=\{'deterministic': True\}"),
    ]:
        with pytest.raises(TypeError, match=words) as caught:
            bind(model, variables, **keywords)
        assert "\n" not in str(caught.value)
    both = {name: given | {"deterministic": name == "frozen"} for name, given in told.items()}
    steps(bind(model, variables, **both))


def test_a_bound_model_prints_shapes() -> None:
    text = repr(bind(ConvNet(nnx.Rngs(0)), head="head"))
    assert "params conv.kernel: float32[3, 3, 1, 4]" in text
    assert "state norm.mean: float32[4]" in text
    assert "Array" not in text
    assert len(text) < 1500
