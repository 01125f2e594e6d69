"""What the tests of networks share: sizes, taps, a step, and weights and images by a formula."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import regjax as rj
import regjax.flax as rf
from experiments import models

Shape = tuple[int, int, int]


@functools.cache
def abstract(text: str, shape: Shape, classes: int) -> Any:
    """A network in evaluation, with shapes for arrays: made once, since that takes longest."""
    model = nnx.eval_shape(lambda: models.create(text, shape, classes, nnx.Rngs(0)))
    model.eval()
    return model


def parameters(model: nnx.Module) -> int:
    """The number of parameters."""
    return _size(model, nnx.Param)


def averages(model: nnx.Module) -> int:
    """The number of BatchNorm's running averages."""
    return _size(model, nnx.BatchStat)


def _size(model: nnx.Module, kind: type[nnx.Variable]) -> int:
    return sum(each.size for each in jax.tree.leaves(nnx.state(model, kind)))


def tapped(text: str, shape: Shape, classes: int) -> tuple[dict[str, tuple[int, ...]], rj.Outputs]:
    """The shapes of all layers' outputs for two images, and the network's outputs."""
    seen = {}

    def outputs(x: jax.Array) -> rj.Outputs:
        def tap(layer: str, h: jax.Array) -> jax.Array:
            seen[layer] = h.shape
            return h

        model = models.create(text, shape, classes, nnx.Rngs(0))
        return rf.bind(model, head="head")(x, tap=tap)._replace(state=())

    return seen, jax.eval_shape(outputs, jnp.ones((2, *shape)))


def assert_takes_a_step(text: str, shape: Shape) -> None:
    """A step of gradient descent, traced, keeps parameters and averages what they are in shape."""

    def step() -> Any:
        model = models.create(text, shape, 3, nnx.Rngs(0))
        forward, loss = rf.bind(model, head="head"), rj.cross_entropy()
        batch = rj.Batch(image(4, shape), jnp.ones((4, 3)) / 3)

        def objective(params: Any) -> tuple[jax.Array, Any]:
            state, key = loss.init(forward, batch), jax.random.key(0)
            result, _ = loss.apply(state, forward.replace(params=params), batch, key)
            return rj.total(result, batch), result.outputs.state

        slope, state = jax.grad(objective, has_aux=True)(forward.params)
        after = optax.apply_updates(forward.params, slope), state
        return (forward.params, forward.state), after

    before, after = jax.eval_shape(step)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    assert jax.tree.leaves(after[1])


def waves(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Values in -1 to 1, other ones for every number, without a pattern that a kernel could see."""
    i = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(0.37 * (number + 1) + 0.9 * i * i).reshape(shape)


def image(count: int, shape: Shape) -> jax.Array:
    """So many images [count, H, W, K]."""
    return jnp.asarray(waves(0, (count, *shape)), jnp.float32)


def fill(model: nnx.Module) -> None:
    """Gives all parameters and statistics of a network values that depend on nothing but order."""
    paths = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    for number, (path, variable) in enumerate(sorted(paths, key=lambda each: str(each[0]))):
        value = _value(str(path[-1]), waves(number, variable.shape))
        variable[...] = jnp.asarray(value, jnp.float32)


def _value(name: str, wave: np.ndarray) -> np.ndarray:
    if name == "kernel":
        return wave * (4 / np.prod(wave.shape[:-1])) ** 0.5
    return {"scale": 1 + 0.2 * wave, "var": 1 + 0.3 * wave}.get(name, 0.1 * wave)


def assert_logits(model: nnx.Module, shape: Shape, expected: Any) -> None:
    """What a filled network says of two images in evaluation."""
    fill(model)
    model.eval()
    np.testing.assert_allclose(jax.jit(lambda x: model(x))(image(2, shape)), expected, atol=2e-5)


def features_of_means(text: str, pixels: int) -> np.ndarray:
    """The features [M] of one image in evaluation, where every kernel takes the mean of its inputs.

    BatchNorm is as at the start. So they depend on nothing but which layers follow which, on their
    sizes, strides and padding. Image and kernels are those of the values that Keras 3.15.1 gave;
    here all is float64, since a hundred layers of float32 are off by more than 1e-5.
    """
    shape = (pixels, pixels, 3)
    graph, state = nnx.split(abstract(text, shape, 10))

    def value(path: Any, leaf: Any) -> jax.Array:
        name = str(getattr(path[-2], "key", path[-1]))
        start = {"kernel": 1 / np.prod(leaf.shape[:-1]), "scale": 1.0, "var": 1.0}.get(name, 0.0)
        return jnp.full(leaf.shape, start, jnp.float64)

    def features(state: Any, x: jax.Array) -> Any:
        return rf.bind(nnx.merge(graph, state), head="head")(x).features

    i, j, c = np.indices(shape)
    with jax.enable_x64(True):
        x = jnp.asarray(((7 * i + 3 * j + 5 * c) % 11) / 5 - 1)[None]
        filled = jax.tree_util.tree_map_with_path(value, state)
        return np.asarray(jax.jit(features)(filled, x))[0]
