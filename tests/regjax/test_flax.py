"""`bind`: unmodified NNX and Linen models as pure functions, with taps, dropout and statistics."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from support import (
    CLASSES,
    CONV_SHAPE,
    ConvNet,
    assert_close,
    assert_finite,
    assert_same,
    random_batch,
)

import regjax as rj
from regjax.flax import bind

pytestmark = pytest.mark.nnx

KEY = jax.random.key(0)
BATCH = random_batch(4, shape=CONV_SHAPE)
X = BATCH.image


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = jnp.tanh(linen.Dense(4)(x))
        return linen.Dropout(0.5, deterministic=not train)(x)


class LinenNet(linen.Module):
    """The same network as `ConvNet`."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = linen.Conv(4, (3, 3), name="conv")(x)
        x = jnp.tanh(linen.BatchNorm(use_running_average=not train, name="norm")(x))
        for i in range(2):
            x = LinenBlock(name=f"blocks_{i}")(x, train)
        return linen.Dense(CLASSES, name="head")(x.mean((1, 2)))


def nnx_forward(rate: float = 0.5) -> rj.Forward:
    return bind(ConvNet(nnx.Rngs(0), rate), head="head")


@functools.cache
def linen_variables() -> Any:
    return LinenNet().init(KEY, X, train=False)


def linen_forward() -> rj.Forward:
    modes = {"training": {"train": True}, "frozen": {"train": False}}
    return bind(LinenNet(), linen_variables(), head="head", **modes)


BOTH = pytest.mark.parametrize("make", [nnx_forward, linen_forward])
MASKED = {nnx_forward: ("blocks.0.dropout", "blocks.1.dropout"), linen_forward: ()}


@jax.jit
def run(forward: rj.Forward, x: jax.Array, key: jax.Array | None = None) -> rj.Outputs:
    return forward(x, key)


def penalty(loss: rj.Loss, forward: rj.Forward, key: jax.Array | None = KEY) -> jax.Array:
    @jax.jit
    def measure(forward: rj.Forward) -> jax.Array:
        result, _ = loss.apply(loss.init(forward, BATCH), forward, BATCH, key)
        (value,) = result.penalties.values()
        return value

    return measure(forward)


def trained(make: Any) -> rj.Forward:
    """With averages that are not the initial ones."""
    forward = make()
    return forward.replace(state=run(forward, X + 1).state)


# Layers.


def test_layers_are_named_by_path() -> None:
    assert set(nnx_forward().layers) >= {
        *("input", "conv", "norm", "head", "blocks.0", "blocks.1"),
        *("blocks.0.linear", "blocks.0.dropout", "blocks.1.linear", "blocks.1.dropout"),
    }
    assert set(linen_forward().layers) == {
        *("input", "conv", "norm", "head", "blocks_0", "blocks_1"),
        *("blocks_0.Dense_0", "blocks_1.Dense_0"),
    }


@BOTH
def test_taps_see_every_layer_once(make: Any) -> None:
    forward, seen = make(), {}

    def spy(layer: str, h: jax.Array) -> jax.Array:
        assert layer not in seen
        seen[layer] = h.shape
        return h

    assert_close(forward(X, tap=spy), forward(X))
    called = [layer for layer in forward.layers if layer != "blocks"]
    assert set(called) <= set(seen)
    assert seen["input"] == X.shape
    assert seen["conv"] == (4, 4, 4, 4)
    assert seen["head"] == (4, CLASSES)


@BOTH
def test_taps_replace_what_flows(make: Any) -> None:
    forward = make()
    plain = forward(X)
    block = next(name for name in forward.layers if name in ("blocks.1", "blocks_1"))
    for layer in ("input", "conv", block, "head"):
        shifted = forward.with_tap(lambda _, h: jnp.sin(3 * h), layers=(layer,))
        changed = jax.jit(lambda x, shifted=shifted: shifted(x).logits)(X)
        assert jnp.all(jnp.abs(changed - plain.logits) > 1e-6), layer
        same = forward.with_tap(lambda _, h: h, layers=(layer,))
        assert_close(same(X).logits, plain.logits)
    zeroed = forward.with_tap(lambda _, h: jnp.zeros_like(h), layers=(block,))(X)
    assert_close(zeroed.logits, jnp.broadcast_to(forward.head.bias[None], (4, CLASSES)))
    assert_close(forward(X).logits, plain.logits)


@BOTH
def test_features_and_head_make_the_logits(make: Any) -> None:
    forward = make()
    outputs = run(forward, X, KEY)
    head = forward.head
    assert outputs.features.shape == (4, 4)
    assert head.kernel.shape == (4, CLASSES)
    assert_close(outputs.features @ head.kernel + head.bias[None], outputs.logits)


def test_models_may_return_features_and_have_no_head() -> None:
    class Both(nnx.Module):
        def __init__(self) -> None:
            self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

        def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self.linear(x), x

    forward = bind(Both())
    assert_same(forward(jnp.ones((1, 2))).features, jnp.ones((1, 2)))
    assert forward.head is None
    assert bind(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))(jnp.ones((1, 2))).features is None


def test_heads_without_bias_called_by_keyword() -> None:
    class Keyword(nnx.Module):
        def __init__(self) -> None:
            self.out = nnx.Linear(2, 3, use_bias=False, rngs=nnx.Rngs(0))

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.out(inputs=x)

    forward = bind(Keyword(), head="out")
    assert forward.head.bias is None
    assert_close(forward(jnp.ones((1, 2))).features, jnp.ones((1, 2)))


class Repeated(nnx.Module):
    """Two linear layers under one name, which run one after the other or side by side."""

    def __init__(self, kind: str) -> None:
        @nnx.split_rngs(splits=2)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stacked(rngs: nnx.Rngs) -> nnx.Linear:
            return nnx.Linear(3, 3, rngs=rngs)

        self.kind = kind
        many = kind in ("scan", "vmap")
        self.blocks = stacked(nnx.Rngs(0)) if many else nnx.Linear(3, 3, rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.kind == "scan":
            run = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            return run(self.blocks, x)
        if self.kind == "vmap":
            return nnx.vmap(lambda b, x: b(x), in_axes=(0, None))(self.blocks, x).sum(0)
        return getattr(nnx, self.kind)(lambda b, x: b(x))(self.blocks, x)


class RepeatedLinen(linen.Module):
    """The same of Linen."""

    kind: str

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        own = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        if self.kind == "scan":
            return linen.scan(InScan, length=2, **own)(name="blocks")(x, None)[0]
        if self.kind == "vmap":
            many = linen.vmap(linen.Dense, in_axes=None, axis_size=2, **own)
            return many(3, name="blocks")(x).sum(0)
        return getattr(linen, self.kind)(linen.Dense)(3, name="blocks")(x)


class InScan(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return linen.Dense(3, name="inner")(x), None


@pytest.mark.parametrize("library", ["nnx", "linen"])
@pytest.mark.parametrize("kind", ["scan", "vmap", "remat", "jit"])
def test_layers_under_one_name_that_run_often_are_refused(library: str, kind: str) -> None:
    x = jnp.ones((2, 3))
    if library == "nnx":
        forward = bind(Repeated(kind))
    else:
        model = RepeatedLinen(kind)
        forward = bind(model, model.init(KEY, x))
    layer = "blocks.inner" if (library, kind) == ("linen", "scan") else "blocks"
    tapped = forward.with_tap(lambda _, h: 2 * h, layers=(layer,))
    if kind in ("scan", "vmap"):
        with pytest.raises(ValueError, match=f"runs it inside {kind}.*Python loop"):
            jax.eval_shape(tapped, x)
    else:
        assert_close(tapped(x).logits, 2 * forward(x).logits)


# Purity.


def test_nothing_is_written_through_to_the_model() -> None:
    model, kept = ConvNet(nnx.Rngs(0)), nnx.Any(nnx.Param, nnx.BatchStat)
    before = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, kept)))
    classes = {path: type(module) for path, module in nnx.iter_modules(model)}
    forward = bind(model, head="head")
    states = [forward(X, KEY).state, run(forward, X, KEY).state]
    jax.grad(lambda p: forward.replace(params=p)(X, KEY, tap=lambda _, h: h).logits.sum())(
        forward.params
    )
    after = nnx.to_pure_dict(nnx.state(model, kept))
    assert_same(after, before)
    assert {path: type(module) for path, module in nnx.iter_modules(model)} == classes
    assert_close(states[0], states[1])
    assert jax.tree.structure(states[0]) == jax.tree.structure(forward.state)
    moved = jax.tree.map(lambda a, b: jnp.any(a != b), states[0], forward.state)
    assert any(jax.tree.leaves(moved))
    model.head.bias[...] = model.head.bias[...] + 7.0
    assert jnp.all(forward.head.bias == 0)


@BOTH
def test_statistics_ride_in_the_state(make: Any) -> None:
    forward = make()
    first = run(forward, X)
    second = run(forward.replace(state=first.state), X)
    assert_close(first.logits, second.logits)  # training mode normalises by the batch
    moved = forward.replace(state=second.state)
    assert jnp.any(jnp.abs(run(moved.frozen(), X).logits - run(forward.frozen(), X).logits) > 1e-4)
    assert_same(run(moved.frozen(), X).state, second.state)


# Dropout.


@BOTH
def test_same_key_same_masks_and_no_key_none(make: Any) -> None:
    forward = make()
    one, other = KEY, jax.random.key(1)
    assert_same(run(forward, X, one), run(forward, X, one))
    assert jnp.any(run(forward, X, one).logits != run(forward, X, other).logits)
    assert_same(run(forward, X), run(forward, X, None))
    assert jnp.any(run(forward, X, one).logits != run(forward, X).logits)
    raw = jax.random.key_data(one)
    assert_same(run(forward, X, raw), run(forward, X, one))


def test_two_layers_have_masks_of_their_own() -> None:
    forward, masks = nnx_forward(), {}

    def ones(layer: str, h: jax.Array) -> jax.Array:
        if layer.endswith("dropout"):
            masks[layer] = h == 0
        return jnp.ones_like(h) if layer.endswith("linear") else h

    forward(X, KEY, tap=ones)
    first, second = masks.values()
    assert jnp.any(first)
    assert jnp.any(first != second)
    assert jnp.any(first[0] != first[1])


def test_split_streams_are_seeded_in_their_shape() -> None:
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def layers(rngs: nnx.Rngs) -> nnx.Dropout:
        return nnx.Dropout(0.5, rngs=rngs)

    class Ensemble(nnx.Module):
        def __init__(self) -> None:
            self.dropouts = layers(nnx.Rngs(0))

        def __call__(self, x: jax.Array) -> jax.Array:
            return nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(self.dropouts, x).sum(0)

    forward = bind(Ensemble())
    assert_close(forward(jnp.ones((2, 64))).logits, jnp.full((2, 64), 3.0))
    assert len(jnp.unique(forward(jnp.ones((2, 64)), KEY).logits)) > 2


def test_an_nnx_model_in_eval_mode_stays_in_it() -> None:
    model = ConvNet(nnx.Rngs(0))
    model.eval()
    forward = bind(model)
    assert_same(run(forward, X, KEY).logits, run(forward, X).logits)
    assert_same(run(forward, X, KEY).state, forward.state)
    assert_same(run(forward, X).logits, run(forward.frozen(), X).logits)


# Frozen statistics.


def test_frozen_is_the_eval_mode() -> None:
    forward = trained(linen_forward)
    variables = {"params": forward.params, **forward.state}
    assert_close(run(forward.frozen(), X).logits, LinenNet().apply(variables, X, train=False))
    model = ConvNet(nnx.Rngs(0))
    model(X + 1)
    expected = bind(model).frozen()
    model.eval()
    assert_close(run(expected, X).logits, model(X))


@pytest.mark.parametrize(
    "link",
    [
        "double_backprop(weight=1)",
        "jacobian(weight=1)",
        "frobenius(weight=1, probes=1)",
        "hessian_frobenius(weight=1)",
    ],
)
def test_frozen_penalties_are_those_of_the_eval_mode(link: str) -> None:
    model = ConvNet(nnx.Rngs(0), rate=0.0)
    model(X + 1)
    training = bind(model)
    model.eval()
    evaluation = bind(model)
    text = f"cross_entropy | {link}"
    expected = penalty(rj.parse(text), evaluation)
    frozen = penalty(rj.parse(text.replace("weight=1", "weight=1, batch_norm='frozen'")), training)
    assert_close(frozen, expected)
    assert jnp.any(jnp.abs(penalty(rj.parse(text), training) - expected) > 1e-4)


# Linen and NNX are the same network.


def test_linen_and_nnx_agree() -> None:
    linen_one, nnx_one = linen_forward(), nnx_forward()
    params = dict(linen_one.params)
    blocks = {i: {"linear": params.pop(f"blocks_{i}")["Dense_0"]} for i in range(2)}
    moved = nnx_one.replace(params=params | {"blocks": blocks})
    assert_close(run(moved, X).logits, run(linen_one, X).logits)
    decay = rj.parse("cross_entropy | l2(weight=1)")
    assert_close(penalty(decay, moved), penalty(decay, linen_one))


# Mistakes.


def test_mistakes() -> None:
    model, variables = ConvNet(nnx.Rngs(0)), linen_variables()
    for call, error, words in [
        (lambda: bind(tuple), TypeError, r"Flax NNX or Linen module.*given type"),
        (lambda: bind(model, variables), TypeError, r"NNX module holds its variables"),
        (lambda: bind(model, training={}), TypeError, r"NNX module holds its variables and mode"),
        (lambda: bind(LinenNet()), TypeError, r"needs its variables: bind\(model, model\.init"),
        (
            lambda: bind(
                LinenNet(),
                variables["params"],
                training={"train": True},
                frozen={"train": False},
            ),
            TypeError,
            r"all that model\.init.*'params'.*'blocks_0'",
        ),
        (lambda: bind(model, head="haed"), ValueError, r"no layer 'haed' to be the head.*'head'"),
        (lambda: bind(model, head="conv"), ValueError, r"'conv' must be a linear layer.*\[A, C\]"),
        (lambda: bind(model, auxiliary=("conv",)), ValueError, r"'conv' must be a linear layer"),
        (lambda: bind(model, auxiliary="head"), TypeError, r"auxiliary must be a tuple.*a string"),
        (lambda: bind(model, head="blocks.0"), ValueError, r"'blocks\.0' must be a linear layer"),
        (
            lambda: bind(model).with_tap(lambda _, h: h, layers=("block.0",)),
            ValueError,
            r"unknown layers \['block\.0'\].*'blocks\.0'",
        ),
    ]:
        with pytest.raises(error, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_donating_the_parameters_leaves_the_model_alone() -> None:
    model = ConvNet(nnx.Rngs(0))
    params = bind(model).params
    jax.jit(lambda p: jax.tree.map(lambda w: w + 1, p), donate_argnums=0)(params)
    assert_finite(model(X))


class NoisyLinen(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return linen.Dense(CLASSES)(x.reshape(len(x), -1))


def test_linen_draws_from_the_streams_that_are_named() -> None:
    model = NoisyLinen()
    forward = bind(model, model.init({"params": KEY, "noise": KEY}, X), rngs=("noise",))
    assert_same(forward(X, KEY).logits, forward(X, KEY).logits)
    assert not jnp.allclose(forward(X, KEY).logits, forward(X, jax.random.key(1)).logits)


class Dense(nnx.Module):
    """A class for each pixel."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        """Five features a pixel."""
        self.conv = nnx.Conv(1, 5, (3, 3), rngs=rngs)
        self.head = nnx.Conv(5, CLASSES, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits `[B, H, W, C]`."""
        return self.head(jnp.tanh(self.conv(x)))


def test_a_convolution_of_one_pixel_is_a_head() -> None:
    forward = bind(Dense(nnx.Rngs(0)), head="head")
    outputs = forward(X)
    assert outputs.features.shape == (*X.shape[:3], 5)
    kernel, bias = forward.head
    assert_close(outputs.features @ kernel + bias[None, None, None], outputs.logits)
    label = jax.nn.one_hot(jnp.full(X.shape[:3], 1).at[0, 0].set(255), CLASSES)
    loss, batch = rj.isda(strength=0.5), rj.Batch(X, label)
    result, state = loss.apply(loss.init(forward, batch), forward, batch, KEY)
    assert result.losses.shape == (len(X),)
    seen = np.asarray(outputs.features).reshape(-1, 5)[X.shape[2] :]
    np.testing.assert_allclose(
        state.stages["isda"].covariance.matrix[1], np.cov(seen.T, bias=True), atol=1e-5
    )
