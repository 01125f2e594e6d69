"""ISDA refuses a network whose logits are not `features @ kernel + bias`, traced or not."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from support import CONV_SHAPE, ConvNet, random_batch, tanh_forward

import regjax as rj
from regjax.core.head_check import check_head
from regjax.flax import bind

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
BATCH = rj.Batch(X, jnp.eye(2)[jnp.array([0, 1, 0, 1])])


class Net(nnx.Module):
    """A hidden layer, a head, and what somebody may do around the head."""

    def __init__(self, kind: str) -> None:
        rngs = nnx.Rngs(0)
        self.kind = kind
        self.hidden = nnx.Linear(3, 3, rngs=rngs)
        linear = nnx.Linear(3, 2, rngs=rngs)
        if kind == "weight norm":
            linear = nnx.WeightNorm(linear, rngs=rngs)
        if kind == "lora":
            linear = nnx.LoRA(3, 1, 2, base_module=linear, rngs=rngs)
        if kind == "lora linear":
            linear = nnx.LoRALinear(3, 2, lora_rank=1, rngs=rngs)
        if kind == "learned temperature":
            self.temperature = nnx.Param(jnp.ones((1, 1)))
        self.head = linear

    def __call__(self, x: jax.Array) -> jax.Array:
        h = jnp.tanh(self.hidden(x))
        logits = self.head(h)
        return {
            "temperature": lambda: logits / 4,
            "learned temperature": lambda: logits / self.temperature[...],
            "residual": lambda: logits + x[:, :2],
            "twice": lambda: logits + self.head(2 * h),
            "bfloat16": lambda: logits.astype(jnp.bfloat16).astype(jnp.float32),
            "flat": lambda: logits.reshape(-1).reshape(logits.shape),
        }.get(self.kind, lambda: logits)()


HEADS = {"weight norm": "head.layer_instance", "lora": "head.base_module"}
WRONG = ("temperature", "learned temperature", "weight norm", "lora", "lora linear")


def forward(kind: str) -> rj.Forward:
    return bind(Net(kind), head=HEADS.get(kind, "head"))


@pytest.mark.parametrize("kind", WRONG)
def test_a_head_that_is_not_all_of_the_map_is_refused_even_while_tracing(kind: str) -> None:
    network = forward(kind)
    learned = rj.learned_augmentation(factor=1.0, samples=1, uncertainty=0.1, margin=1.0)
    explicit = rj.explicit_augmentation(strength=1, samples=1)
    for loss in (rj.isda(strength=0.5), explicit, learned):
        with pytest.raises(ValueError, match=r"not features @ kernel \+ bias.*get_head=") as caught:
            jax.eval_shape(loss.init, network, BATCH)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="not features @ kernel"):
        jax.vmap(lambda _: rj.isda(strength=0.5).init(network, BATCH).step)(jnp.ones(2))


@pytest.mark.parametrize("kind", ["plain", "bfloat16", "flat"])
def test_a_head_that_is_all_of_it_is_taken(kind: str) -> None:
    state = jax.eval_shape(rj.isda(strength=0.5).init, forward(kind), BATCH)
    kernel, _ = forward(kind).head
    assert state.stages["isda"].mean.shape == kernel.shape[::-1]


def test_logits_that_see_more_than_the_features_are_looked_at_where_there_are_numbers() -> None:
    network, loss = forward("residual"), rj.isda(strength=0.5)
    outputs = network(X[:2])
    kernel, bias = network.head
    told = np.asarray(outputs.features) @ np.asarray(kernel) + np.asarray(bias)
    off = np.abs(told - np.asarray(outputs.logits)).max()
    with pytest.raises(ValueError, match=rf"off by {off:.2g} where"):
        loss.init(network, BATCH)
    jax.eval_shape(loss.init, network, BATCH)


def test_a_head_that_is_called_twice_has_no_features() -> None:
    network, loss = forward("twice"), rj.isda(strength=0.5)
    assert network(X).features is None
    with pytest.raises(ValueError, match="calls the layer twice"):
        loss.apply(loss.init(network, BATCH), network, BATCH, KEY)


def test_a_head_may_say_what_its_kernel_is_made_of() -> None:
    def kernel(params: Any) -> Any:
        head = params["head"]
        return head["kernel"] + head["lora"]["lora_a"] @ head["lora"]["lora_b"], head["bias"]

    check_head(forward("lora linear").replace(get_head=kernel), X)


class LinenNet(linen.Module):
    factor: float

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.factor * linen.Dense(2, name="head")(jnp.tanh(x))


def test_other_networks() -> None:
    check = functools.partial(jax.eval_shape, lambda f, x: check_head(f, x))
    for factor, match in ((1.0, None), (3.0, "not features")):
        model = LinenNet(factor)
        network = bind(model, model.init(KEY, X), head="head")
        if match is None:
            check(network, X)
        else:
            with pytest.raises(ValueError, match=match):
                check(network, X)
    check(tanh_forward(), random_batch(4).image)
    check(bind(ConvNet(nnx.Rngs(0)), head="head"), random_batch(4, shape=CONV_SHAPE).image)
    # Of logits elsewhere than the features, such as enlarged ones, nothing is told here.
    wide = rj.from_function(
        lambda p, x: (jnp.repeat(x @ p, 2, 0), x), jnp.ones((3, 2)), head=lambda p: (p, None)
    )
    check(wide, X)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_masked_class_does_not_hide_what_happens_to_the_others(factor: float) -> None:
    def network(p: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.where(jnp.arange(3)[None] < 2, factor * (x @ p), -jnp.inf), x

    masked = rj.from_function(network, jnp.ones((3, 3)), head=lambda p: (p, None))
    if factor == 1:
        check_head(masked, X)
    else:
        with pytest.raises(ValueError, match="not features @ kernel"):
            check_head(masked, X)
