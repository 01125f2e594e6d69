"""Mixing in hidden layers: which layer, what it computes there against NumPy, on which networks.

Where every example has a class of its own, the mixed labels are the matrix that mixed them.
"""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats
from support import (
    CONV_SHAPE,
    LAYERED,
    ConvNet,
    assert_close,
    assert_finite,
    each_its_class,
    random_batch,
)

import regjax as rj
import regjax.flax

KEY, LAYERS, FORWARD = jax.random.key(0), LAYERED.layers, LAYERED
STAGES = {
    "manifold_mixup": {"alpha": 1.0, "layers": LAYERS},
    "noisy_feature_mixup": {"alpha": 1.0, "add": 0.4, "multiply": 0.2, "layers": LAYERS},
    "feature_noise": {"add": 0.1, "multiply": 0.1, "layers": LAYERS},
}


def test_layers_are_drawn_uniformly() -> None:
    keys = jax.random.split(jax.random.key(2), 1500)

    def touched(key: jax.Array) -> jax.Array:
        """Which layers changed what flowed through, by the network's own order."""
        seen: dict[str, jax.Array] = {}
        forward, batch = rj.manifold_mixup.definition.function(
            FORWARD, each_its_class(8), key, alpha=4.0, layers=LAYERS
        )

        def before(layer: str, h: jax.Array) -> jax.Array:
            seen[layer] = h
            return h

        def after(layer: str, h: jax.Array) -> jax.Array:
            seen[layer] = jnp.any(seen[layer] != h)
            return h

        watched = FORWARD.with_tap(before, layers=LAYERS)
        watched = watched.replace(taps=(*watched.taps, *forward.taps))
        watched(batch.image, tap=after)
        return jnp.stack([seen[layer] for layer in LAYERS])

    chosen = np.asarray(jax.jit(jax.vmap(touched))(keys))
    assert (chosen.sum(1) == 1).mean() > 0.99  # none where all examples met themselves
    assert stats.chisquare(chosen.sum(0)).pvalue > 1e-3


def by_hand(params: Any, image: Any, weights: Any, layer: str, xp: Any) -> Any:
    """The network of this file that mixes rows by a matrix in one layer."""
    mixing = {name: weights if name == layer else xp.eye(len(weights)) for name in LAYERS}
    h = mixing["input"] @ image.reshape(len(image), -1)
    h = mixing["first"] @ xp.tanh(h @ params["A"])
    return (mixing["second"] @ xp.tanh(h @ params["B"])) @ params["C"]


@jax.jit
@chex.assert_max_traces(n=1)
def feature_mixup(params: Any, batch: rj.Batch, key: jax.Array, alpha: Any, add: Any) -> Any:
    """Gradient of the mean loss, the logits and the mixed labels."""

    def objective(params: Any) -> tuple[jax.Array, Any]:
        forward, mixed = rj.noisy_feature_mixup.definition.function(
            FORWARD, batch, key, alpha=alpha, add=add, multiply=0.0, layers=LAYERS
        )
        logits = forward.replace(params=params)(mixed.image).logits
        loss = -jnp.mean(jnp.sum(mixed.label * jax.nn.log_softmax(logits), -1))
        return loss, (logits, mixed.label)

    return jax.grad(objective, has_aux=True)(params)


def test_every_layer_equals_a_network_that_mixes_there() -> None:
    """Logits, and gradients also of the layers before the mixing; one program for all layers."""
    batch, params = each_its_class(8), FORWARD.params
    flat, image = ({k: np.asarray(v, float) for k, v in params.items()}, np.asarray(batch.image))
    seen = set()

    @functools.partial(jax.jit, static_argnames="layer")
    @jax.grad
    def by_hand_slope(params: Any, label: jax.Array, *, layer: str) -> jax.Array:
        logits = by_hand(params, batch.image, label, layer, jnp)
        return -jnp.mean(jnp.sum(label * jax.nn.log_softmax(logits), -1))

    for seed in range(12):
        slope, (logits, label) = feature_mixup(params, batch, jax.random.key(seed), 4.0, 0.0)
        options = {k: by_hand(flat, image, np.asarray(label, float), k, np) for k in LAYERS}
        (layer,) = [k for k in LAYERS if np.abs(options[k] - logits).max() < 1e-4]
        seen.add(layer)
        assert_close(slope, by_hand_slope(params, label, layer=layer))
    assert seen == set(LAYERS)
    feature_mixup(params, batch, jax.random.key(0), 0.0, 0.7)


@pytest.mark.nnx
@pytest.mark.parametrize("name", ["manifold_mixup", "noisy_feature_mixup"])
def test_a_flax_model_with_batch_norm(name: str) -> None:
    forward = regjax.flax.bind(ConvNet(nnx.Rngs(0)), head="head")
    layers = ("input", "conv", "blocks.0")
    loss = getattr(rj, name)(rj.cross_entropy(), **STAGES[name] | {"layers": layers})
    batch = random_batch(5, shape=CONV_SHAPE)

    @jax.jit
    def step(params: Any, key: jax.Array) -> Any:
        def objective(params: Any) -> Any:
            bound = forward.replace(params=params)
            result, _ = loss.apply(loss.init(bound, batch), bound, batch, key)
            return rj.total(result, batch), result.outputs.state

        return jax.grad(objective, has_aux=True)(params)

    for seed in range(4):
        slope, state = step(forward.params, jax.random.key(seed))
        assert_finite((slope, state))
        assert jax.tree.structure(state) == jax.tree.structure(forward.state)
        assert any((np.asarray(x) != 0).any() for x in jax.tree.leaves(slope["conv"]))


@pytest.mark.parametrize("name", STAGES)
def test_wrong_layers_are_refused(name: str) -> None:
    arguments = STAGES[name]

    def run(layers: Any) -> None:
        loss = getattr(rj, name)(rj.cross_entropy(), **arguments | {"layers": layers})
        batch = each_its_class(8)
        jax.eval_shape(lambda: loss.apply(loss.init(FORWARD, batch), FORWARD, batch, KEY))

    with pytest.raises(ValueError, match=r"unknown layers \['third'\].*\['input', 'first'"):
        run(("first", "third"))
    with pytest.raises(TypeError, match=r"tuple of names, such as \('first',\), not a string"):
        run("first")
    for layers in ((), ("first", "first")):
        with pytest.raises(ValueError, match="at least one layer, and each once"):
            run(layers)


def test_a_layer_without_examples_is_refused() -> None:
    def flat(params: Any, x: jax.Array, tap: Any) -> jax.Array:
        return tap("flat", x.reshape(-1, 2)).reshape(len(x), -1)

    forward, batch = rj.from_function(flat, None, layers=("flat",)), random_batch(4, shape=(3,))
    batch = batch.replace(image=jnp.ones((4, 6)))
    loss = rj.manifold_mixup(rj.cross_entropy(), alpha=1.0, layers=("flat",))
    with pytest.raises(ValueError, match=r"layer 'flat' is float32\[12, 2\].* batch of 4"):
        jax.eval_shape(lambda: loss.apply(loss.init(forward, batch), forward, batch, KEY))
