"""What the tests share: tolerances by dtype, tiny networks, random batches."""

from __future__ import annotations

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import regjax as rj

CLASSES, SHAPE, FEATURES = 3, (4, 2, 1), 5

# Relative and absolute: two ways to compute the same number, with sums in another order.
TOLERANCES = {"float64": (1e-9, 1e-10), "float32": (2e-4, 1e-5), "bfloat16": (8e-2, 8e-2)}


def assert_close(actual: Any, desired: Any, dtype: Any = jnp.float32) -> None:
    """Compares two pytrees of one structure, leaf by leaf, as closely as `dtype` allows."""
    rtol, atol = TOLERANCES[jnp.dtype(dtype).name]
    chex.assert_trees_all_close(actual, desired, rtol=rtol, atol=atol)


def assert_same(actual: Any, desired: Any) -> None:
    """Compares two pytrees bit by bit."""
    chex.assert_trees_all_equal(actual, desired)


def assert_finite(tree: Any) -> None:
    """Every number of a pytree is finite."""
    chex.assert_tree_all_finite(tree)


def tanh_network(
    params: Any, x: jax.Array, tap: rj.Tap = lambda layer, h: h
) -> tuple[jax.Array, jax.Array]:
    """A smooth network with one layer, "hidden"; returns logits and features."""
    hidden = params["hidden"]
    flat = x.reshape(x.shape[0], -1)
    features = jnp.tanh(flat @ hidden["kernel"] + hidden["bias"][None])
    features = tap("hidden", features)
    return features @ params["head"]["kernel"] + params["head"]["bias"][None], features


def tanh_params(seed: int = 0, dtype: Any = jnp.float32) -> dict[str, Any]:
    """Parameters of `tanh_network` of order one, so that no term is negligible."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), dtype)

    return {
        "hidden": {"kernel": draw(int(np.prod(SHAPE)), FEATURES), "bias": draw(FEATURES)},
        "head": {"kernel": draw(FEATURES, CLASSES), "bias": draw(CLASSES)},
        "second": draw(FEATURES, FEATURES),
    }


def tanh_forward(params: Any = None) -> rj.Forward:
    """`tanh_network` as a `Forward` with a head, and two more: a number a feature, one a class."""
    params = tanh_params() if params is None else params
    return rj.from_function(_two_headed, params, head=_head, layers=("hidden",))


@functools.partial(jax.jit, static_argnames="bound")
def apply(
    loss: rj.Loss, params: Any, batch: rj.Batch, key: jax.Array, bound: Any = tanh_forward
) -> Any:
    """The losses, the state, and the gradient of the total by the parameters."""

    def objective(params: Any) -> tuple[jax.Array, Any]:
        forward = bound(params)
        result, state = loss.apply(loss.init(forward, batch), forward, batch, key)
        return rj.total(result, batch), (result.losses, state)

    gradient, (losses, state) = jax.grad(objective, has_aux=True)(params)
    return losses, state, gradient


def _two_headed(params: Any, x: jax.Array, tap: rj.Tap) -> tuple[jax.Array, jax.Array, Any]:
    logits, features = tanh_network(params, x, tap)
    second = features @ params["second"]
    return logits, features, (second, second[:, :CLASSES])


def _head(params: Any) -> tuple[jax.Array, jax.Array]:
    return params["head"]["kernel"], params["head"]["bias"]


def random_batch(
    size: int = 16, *, seed: int = 1, shape: tuple[int, ...] = SHAPE, dtype: Any = jnp.float32
) -> rj.Batch:
    """Random images with one-hot labels, an index that is not the position, and all weights 1."""
    rng = np.random.default_rng(seed)
    image = jnp.asarray(rng.normal(size=(size, *shape)), dtype)
    label = jax.nn.one_hot(rng.integers(CLASSES, size=size), CLASSES, dtype=dtype)
    index = jnp.asarray(rng.permutation(10 * size)[:size], jnp.int32)
    return rj.Batch(image, label, index, jnp.ones(size, dtype))


class ConvNet(nnx.Module):
    """A convolution, BatchNorm, two blocks with dropout, a head; it knows of no taps."""

    def __init__(self, rngs: nnx.Rngs, rate: float = 0.5) -> None:
        """Four features, for images of shape `[B, 4, 4, 1]`."""
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([Block(rate, rngs) for _ in range(2)])
        self.head = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns logits `[B, C]`."""
        x = jnp.tanh(self.norm(self.conv(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class Block(nnx.Module):
    """A layer whose output is dropped at random."""

    def __init__(self, rate: float, rngs: nnx.Rngs) -> None:
        """Four features in, four out."""
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of the shape of `x`."""
        return self.dropout(jnp.tanh(self.linear(x)))


CONV_SHAPE = (4, 4, 1)


def layered_network(params: Any, x: jax.Array, tap: rj.Tap) -> jax.Array:
    """Two layers, "first" and "second", between an image of six pixels and eight classes."""
    h = tap("first", jnp.tanh(x.reshape(len(x), -1) @ params["A"]))
    h = tap("second", jnp.tanh(h @ params["B"]))
    return h @ params["C"]


def layered_params() -> dict[str, jax.Array]:
    """Parameters of `layered_network`."""
    rng = np.random.default_rng(0)
    shapes = {"A": (6, 5), "B": (5, 4), "C": (4, 8)}
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}


LAYERED = rj.from_function(layered_network, layered_params(), layers=("first", "second"))


def each_its_class(size: int = 8, shape: tuple[int, ...] = (3, 2, 1)) -> rj.Batch:
    """Random images, each in a class of its own."""
    return random_batch(size, shape=shape).replace(label=jnp.eye(size))


def flat_identity(params: Any, x: jax.Array) -> jax.Array:
    """A network whose logits are its input, one class a number."""
    return x.reshape(len(x), -1)
