"""Networks of anybody's modules: NNX and Linen, their arguments, their heads, their modes."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from experiments import models
from experiments.runs import networks

SHAPE = (2, 2, 1)


class Dense(nnx.Module):
    def __init__(
        self, image_shape, classes, *, width: int = 3, scale: float = 1.0, kind="relu", rngs
    ):
        self.hidden = nnx.Linear(int(np.prod(image_shape)), width, rngs=rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)
        self.scale, self.kind = scale, kind

    def __call__(self, x):
        return self.scale * self.head(getattr(nnx, self.kind)(self.hidden(x.reshape(len(x), -1))))


class Named(Dense):
    head_name = "last"

    def __init__(self, image_shape, classes, *, rngs):
        super().__init__(image_shape, classes, rngs=rngs)
        self.last = self.head
        del self.head

    def __call__(self, x):
        return self.last(self.hidden(x.reshape(len(x), -1)))


class Unnamed(Named):
    head_name = "head"


class Normed(linen.Module):
    classes: int
    width: int = 3
    head_name = "Dense_1"

    @linen.compact
    def __call__(self, x, train):
        x = linen.Dense(self.width)(x.reshape(len(x), -1))
        x = linen.BatchNorm(use_running_average=not train)(x)
        return linen.Dense(self.classes)(linen.Dropout(0.5, deterministic=not train)(x))


def function(classes, rngs, size=(4, 5)):
    return Dense(SHAPE, classes, width=size[1], rngs=rngs)


def broken(classes):
    raise KeyError("weights")


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    module = types.ModuleType("mine")
    vars(module).update(
        {f.__name__: f for f in (Dense, Named, Unnamed, Normed, function, broken)} | {"x": 3}
    )
    monkeypatch.setitem(sys.modules, "mine", module)


def shapes(text, key=None):
    build = networks.builder(text, SHAPE, 2)
    return jax.eval_shape(build, jax.random.key(0))


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("mine:Dense", 3),
        ("mine:Dense(width=7, scale=2, kind='tanh')", 7),
        ("mine:Named", 3),
        ("mine:function(size=(1, 6))", 6),
        ("mine:Normed", 3),
        ("mine:Normed(width=4)", 4),
    ],
)
def test_a_class_and_a_function_take_arguments_alike(text, features):
    forward = shapes(text)
    assert jax.eval_shape(lambda f: f.head, forward).kernel.shape == (features, 2)


def test_a_linen_network_is_told_its_mode_by_the_keyword_that_it_has():
    forward = networks.builder("mine:Normed", SHAPE, 2)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (8, *SHAPE))
    trained = forward(x, jax.random.key(2))
    before, after = (
        np.asarray(s["batch_stats"]["BatchNorm_0"]["mean"]) for s in (forward.state, trained.state)
    )
    assert not before.any()
    assert after.any()
    frozen = forward.frozen()(x)
    kernel, bias = forward.head
    np.testing.assert_allclose(
        frozen.logits, np.asarray(frozen.features @ kernel) + np.asarray(bias), rtol=1e-5
    )
    assert not np.allclose(frozen.logits, trained.logits)


def test_its_batch_norm_must_know_the_devices():
    build = networks.builder("mine:Normed", SHAPE, 2)
    with pytest.raises(ValueError, match=r"takes no axis_name, .*config\.parallelism='jit'"):
        jax.eval_shape(lambda key: build(key, axis_name="data"), jax.random.key(0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine:Unnamed", "no linear layer 'head' .*: hidden, last"),
        ("mine:Dens", "the module mine has no 'Dens'; it has, among others: Dense"),
        ("other:Dense", "of the module other, which has not been imported"),
        ("mine:x", "mine:x is no class and no function"),
        ("mine:Dense(widt=3)", "mine:Dense takes width, scale, kind, but was given 'widt'"),
        ("mine:Dense(width='a')", "mine:Dense's width must be a whole number, not 'a'"),
        ("mine:Dense(kind=3)", "mine:Dense's kind must be a text, not 3"),
        ("mine:Dense(width=-1)", "the model mine:Dense cannot be made: "),
        ("mine:broken", r"cannot be made: KeyError: 'weights' \(test_networks.py, line \d+\)\."),
        ("mine:types", "is no class and no function"),
        ("nope", "Unknown model 'nope'; known models: small_cnn, .*, ours"),
        ("small_cnn(padding=3)", "small_cnn's padding must be a text, not 3"),
    ],
)
def test_what_is_wrong_is_one_sentence(text, message, monkeypatch):
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    models.register("ours")(Dense)
    vars(sys.modules["mine"])["types"] = types
    with pytest.raises(ValueError, match=message) as error:
        shapes(text)
    assert "\n" not in str(error.value)


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    assert models.register("ours")(Dense) is Dense
    models.register("ours")(Named)  # the same module, read again
    for name, factory in (("small_cnn", Dense), ("ours", nnx.Linear)):
        with pytest.raises(ValueError, match=f"a model named '{name}' exists already"):
            models.register(name)(factory)


def test_own_arguments_reach_the_networks_of_this_package():
    model = models.create("small_cnn(padding='VALID')", (28, 28, 1), 10, nnx.Rngs(0))
    assert model.conv1.padding == "VALID"
    assert jax.eval_shape(model, jnp.ones((1, 28, 28, 1))).shape == (1, 10)
