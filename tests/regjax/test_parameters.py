"""Penalties on the parameters: values, gradients and what they leave out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import regjax as rj
import regjax.flax as rf
from regjax.parameters import penalized_arrays


class Model(nnx.Module):
    """A dense layer with BatchNorm, a list of two more, and a head."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(self.first(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.fixture(scope="module")
def forward() -> rj.Forward:
    bound = rf.bind(Model(nnx.Rngs(0)))
    # Biases and scales unlike 0 and 1, so that leaving one in or out shows.
    moved = [
        array + 0.1 * (i + 1) for i, array in enumerate(jax.tree.leaves(bound.params), start=1)
    ]
    return bound.replace(params=jax.tree.unflatten(jax.tree.structure(bound.params), moved))


def measure(name: str, forward: rj.Forward, **arguments: Any) -> tuple[np.ndarray, Any]:
    """The weighted term and its gradient."""
    loss = getattr(rj, name)(rj.cross_entropy(), **arguments)
    batch = rj.Batch(jnp.ones((2, 3)), jax.nn.one_hot(np.array([0, 1]), 2))
    state = loss.init(forward, batch)

    def term(params: Any) -> jax.Array:
        bound = forward.replace(params=params)
        return loss.apply(state, bound, batch, jax.random.key(0))[0].penalties[name]

    return jax.value_and_grad(term)(forward.params)


def parts(path: Any) -> set[str]:
    return {str(getattr(entry, "key", entry)) for entry in path}


KEPT = {
    None: lambda own: "kernel" in own,
    (): lambda own: True,
    ("bias",): lambda own: "bias" not in own,
    ("head", "norm"): lambda own: not own & {"head", "norm"},
    ("1",): lambda own: "1" not in own,
    ("kernel", "bias", "scale"): lambda own: False,
}


@pytest.mark.parametrize("exclude", KEPT)
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_values_gradients_and_exclusion(
    name: str, exclude: tuple[str, ...] | None, forward: rj.Forward
) -> None:
    value, gradient = measure(name, forward, weight=0.3, exclude=exclude)
    leaves = jax.tree_util.tree_leaves_with_path(forward.params)
    slopes = jax.tree.leaves(gradient)
    expected = 0.0
    for (path, array), slope in zip(leaves, slopes, strict=True):
        w = np.asarray(array, np.float64)
        if not KEPT[exclude](parts(path)):
            np.testing.assert_array_equal(slope, 0)
            continue
        expected += 0.3 * (np.abs(w).sum() if name == "l1" else (w * w).sum())
        np.testing.assert_allclose(slope, 0.3 * (np.sign(w) if name == "l1" else 2 * w), rtol=1e-6)
    assert value.shape == ()
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_by_default_the_kernels_count_and_nothing_else(forward: rj.Forward) -> None:
    shapes = [w.shape for w in penalized_arrays(forward.params)]
    assert sorted(shapes) == [(3, 4), (4, 2), (4, 4), (4, 4)]


def test_convolutions_count_whatever_their_names() -> None:
    params = {"w": jnp.ones((3, 3, 2, 5)), "scale": jnp.ones(5), "temperature": jnp.ones(())}
    assert [w.shape for w in penalized_arrays(params)] == [(3, 3, 2, 5)]


def test_the_value_is_summed_in_float32() -> None:
    """4,096 ones in bfloat16 would stop at 256."""
    params = {"W": jnp.ones((4096, 2), jnp.bfloat16)}
    fn = rj.from_function(lambda params, x: x[:, :1] * params["W"][:1], params)
    for name in ("l1", "l2"):
        value, gradient = measure(name, fn, weight=1.0)
        assert value.dtype == jnp.float32
        assert gradient["W"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(value, 8192)


def test_gradients_at_zero_are_zero() -> None:
    params = {"W": jnp.zeros((3, 2))}
    fn = rj.from_function(lambda params, x: x @ params["W"], params)
    for name in ("l1", "l2"):
        value, gradient = measure(name, fn, weight=1.0)
        np.testing.assert_array_equal(value, 0)
        np.testing.assert_array_equal(gradient["W"], 0)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_an_unknown_name_is_an_error_that_lists_the_known(name: str, forward: rj.Forward) -> None:
    with pytest.raises(ValueError, match=r"exclude names \['biases'\].*'bias', 'blocks'"):
        measure(name, forward, weight=0.3, exclude=("bias", "biases"))


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_single_name_without_its_tuple_is_an_error(name: str) -> None:
    """As a sequence of letters it would leave out the wrong arrays without a word."""
    params = {"a": jnp.ones((3, 2)), "b": jnp.ones((3, 2)), "ab": jnp.ones((3, 2))}
    fn = rj.from_function(lambda params, x: x @ params["a"], params)
    with pytest.raises(TypeError, match=r"a tuple of names.*'ab'"):
        measure(name, fn, weight=1.0, exclude="ab")


def test_weight_decay_shrinks_the_weights_as_stated(forward: rj.Forward) -> None:
    """Eq. (30): under gradient descent with rate r by 1 - 2 r lambda."""
    _, gradient = measure("l2", forward, weight=0.25)
    stepped = jax.tree.map(lambda w, g: w - 0.1 * g, forward.params, gradient)
    for before, after in zip(
        penalized_arrays(forward.params), penalized_arrays(stepped), strict=True
    ):
        np.testing.assert_allclose(after, 0.95 * before, rtol=1e-6)
