"""`Forward` of a pure function: taps, keys, heads, and what is refused."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward, tanh_network, tanh_params

import regjax as rj

KEY = jax.random.key(0)
X = random_batch(4).image


def tapped(params, x, key=None, tap=None):
    h = tap("hidden", jnp.tanh(x.reshape(4, -1) @ params["hidden"]["kernel"]))
    if key is not None:
        h = h * jax.random.bernoulli(key, shape=h.shape)
    h = tap("blocks.1", 2 * h)
    return h @ params["head"]["kernel"]


def forward() -> rj.Forward:
    return rj.from_function(tapped, tanh_params(), layers=("hidden", "blocks.1"))


def test_logits_or_logits_and_features() -> None:
    both = tanh_forward()(X)
    logits = rj.from_function(lambda params, x: tanh_network(params, x)[0], tanh_params())(X)
    assert_same(both.logits, logits.logits)
    assert both.features.shape == (4, 5)
    assert logits.features is None
    assert both.state == ()


def test_head_times_features_are_the_logits() -> None:
    network = tanh_forward()
    outputs = network(X)
    assert_close(outputs.features @ network.head.kernel + network.head.bias[None], outputs.logits)
    doubled = network.replace(params=jax.tree.map(lambda x: 2 * x, network.params))
    assert_same(doubled.head.kernel, 2 * network.head.kernel)
    assert forward().head is None


def test_a_forward_is_a_pytree_and_a_jitted_argument() -> None:
    network = tanh_forward()
    assert len(jax.tree.leaves(network)) == 5
    assert_close(jax.jit(lambda network, x: network(x))(network, X), network(X))


def test_keys_drive_and_no_key_switches_off() -> None:
    network = forward()
    assert_same(network(X, KEY), network(X, KEY))
    assert jnp.any(network(X, KEY).logits != network(X, jax.random.key(1)).logits)
    assert_same(network(X), network(X, None))
    assert jnp.any(network(X, KEY).logits != network(X).logits)


def test_taps_see_and_replace_what_flows() -> None:
    network, seen = forward(), []

    def spy(layer, h):
        seen.append((layer, h.shape))
        return h

    assert_same(network(X, tap=spy), network(X))
    assert seen == [("input", X.shape), ("hidden", (4, 5)), ("blocks.1", (4, 5))]
    assert network.layers == ("input", "hidden", "blocks.1")
    for layer in network.layers:
        zeroed = network(X, tap=lambda name, h, layer=layer: 0 * h if name == layer else h)
        assert jnp.all(zeroed.logits == 0)
        assert_same(network.with_tap(lambda _, h: 0 * h, layers=(layer,))(X), zeroed)


def test_taps_chain_and_reach_only_the_layers_named() -> None:
    network = forward()
    seen = []

    def double(layer, h):
        seen.append(layer)
        return 2 * h

    quadrupled = network.with_tap(double, layers=("hidden",)).with_tap(double, layers=("blocks.1",))
    assert_close(quadrupled(X).logits, 4 * network(X).logits)
    assert seen == ["hidden", "blocks.1"]
    assert_close(quadrupled(X, tap=double).logits[0], quadrupled(X, tap=double).logits[0])
    assert network.taps == ()


def test_a_wrapper_may_tap() -> None:
    @rj.wrapper
    def feature_scaling(forward, batch, *, by, layers: tuple[str, ...]):
        return forward.with_tap(lambda _, h: by * h, layers=layers), batch

    network, batch = forward(), random_batch(4)

    @jax.jit
    def logits(loss):
        return loss.apply(loss.init(network, batch), network, batch, KEY)[0].outputs.logits

    plain = logits(rj.cross_entropy())
    scaled = feature_scaling(rj.cross_entropy(), by=3.0, layers=("blocks.1",))
    assert_close(logits(scaled), 3 * plain)
    with pytest.raises(ValueError, match=r"unknown layers \['blocks\.2'\].*'hidden', 'blocks\.1'"):
        logits(feature_scaling(rj.cross_entropy(), by=3.0, layers=("blocks.2",)))


def test_frozen_changes_nothing_without_statistics() -> None:
    network = tanh_forward()
    assert network.frozen().is_frozen
    assert_same(network.frozen()(X), network(X))
    batch = random_batch(4)
    for stage in ("double_backprop", "jacobian", "frobenius", "hessian_frobenius"):
        values = []
        for batch_norm in ("batch", "frozen"):
            loss = getattr(rj, stage)(rj.cross_entropy(), weight=1.0, batch_norm=batch_norm)
            result, _ = loss.apply(loss.init(network, batch), network, batch, KEY)
            values.append(result.penalties[stage])
        assert_same(*values)


def test_partial_and_jitted_functions_are_taken() -> None:
    partial = functools.partial(lambda scale, params, x: scale * tanh_network(params, x)[0], 2.0)
    expected = 2 * tanh_forward()(X).logits
    assert_close(rj.from_function(partial, tanh_params())(X).logits, expected)
    jitted = jax.jit(lambda params, x: 2 * tanh_network(params, x)[0])
    assert_close(rj.from_function(jitted, tanh_params())(X).logits, expected)


def test_mistakes() -> None:
    params = tanh_params()
    with pytest.raises(ValueError, match=r"layers \['hidden'\] are named.*no keyword 'tap'"):
        rj.from_function(lambda params, x: x, params, layers=("hidden",))
    with pytest.raises(TypeError, match=r"tuple of names, such as \('hidden',\), not a string"):
        rj.from_function(tapped, params, layers="hidden")
    with pytest.raises(TypeError, match=r"tuple of names.*not a string"):
        forward().with_tap(lambda _, h: h, layers="hidden")
    with pytest.raises(ValueError, match=r"calls tap\('blocks\.1'.*layers are \['hidden'\]"):
        rj.from_function(tapped, params, layers=("hidden",))(X)
    with pytest.raises(TypeError, match=r"a model must return logits.*tuple of 3"):
        rj.from_function(lambda params, x: (x, x, x), params)(X)


def test_the_same_function_bound_again_is_not_compiled_again() -> None:
    step = jax.jit(lambda forward: forward(X).logits)
    for seed in range(3):
        step(rj.from_function(tanh_network, tanh_params(seed), layers=("hidden",)))
    assert step._cache_size() == 1


def test_a_layer_that_is_tapped_must_be_called_once() -> None:
    def network(params: Any, x: jax.Array, tap: Any) -> jax.Array:
        return tap("twice", tap("twice", x))

    forward = rj.from_function(network, None, layers=("never", "twice"))
    for layer, times in (("never", 0), ("twice", 2)):
        tapped = forward.with_tap(lambda _, h: h, layers=(layer,))
        with pytest.raises(ValueError, match=f"'{layer}' was to be tapped once.* {times} times"):
            tapped(X)


def shifted(by: float, x: jax.Array, scale: float = 1.0) -> jax.Array:
    return (x - by) / scale


def test_after_a_function_the_input_is_what_it_is_given() -> None:
    network = tanh_forward().after(functools.partial(shifted, 0.5, scale=2.0))
    prepared = (X - 0.5) / 2
    assert_close(network(X), tanh_forward()(prepared))
    assert_close(network.frozen().after(lambda x: 4 * x)(X / 4), network(X))
    doubled = network.replace(params=jax.tree.map(lambda a: 2 * a, network.params))
    assert_close(
        doubled(X), tanh_forward().replace(params=doubled.params).after(lambda x: prepared)(X)
    )
    assert_same(doubled.head.kernel, 2 * network.head.kernel)
    seen = {}
    network(X, tap=lambda layer, h: seen.setdefault(layer, h))
    assert_same(seen["input"], X)
    zeroed = network.with_tap(lambda _, h: 0 * h + 0.5, layers=("input",))
    assert_close(zeroed(X), tanh_forward()(0 * X))
    with pytest.raises(ValueError, match=r"'input'.*call after\(\) first"):
        zeroed.after(lambda x: x)
    keyed = forward().after(lambda x: 2 * x)
    assert_same(keyed(X, KEY), forward()(2 * X, KEY))


def test_after_equal_functions_nothing_is_compiled_again() -> None:
    step = jax.jit(lambda forward: forward(X).logits)
    for seed in range(3):
        network = rj.from_function(tanh_network, tanh_params(seed), layers=("hidden",))
        step(network.after(functools.partial(shifted, 0.5, scale=2.0)))
    assert step._cache_size() == 1
    other = step(network.after(functools.partial(shifted, 0.5, scale=3.0)))
    assert_close(other, network((X - 0.5) / 3).logits)
    arrays = network.after(functools.partial(shifted, jnp.full((1, 1, 1, 1), 0.5)))
    assert_close(step(arrays), network(X - 0.5).logits)
