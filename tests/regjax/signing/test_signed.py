"""Images moved along the gradient of their features, against closed forms in float64."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec
from support import ConvNet, assert_close, random_batch, tanh_forward

import regjax as rj
import regjax.flax as rf
from experiments.benchmark.flops import flops
from experiments.runs import networks

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(4, 3, 2, 1))
KERNEL, BIAS = RNG.normal(size=(6, 5)), RNG.normal(size=5)
BOTH = pytest.mark.parametrize("at", ["iterate", "original"])

Features = Callable[[Any, jax.Array], jax.Array]


def network(features: Features, params: Any = ()) -> rj.Forward:
    """A network of these features, whose head is all ones."""

    def fn(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = features(params, x.reshape(len(x), -1))
        return found.sum(1, keepdims=True), found

    return rj.from_function(fn, params, head=lambda params: (jnp.ones((1, 1)), None))


def linear() -> rj.Forward:
    return network(lambda p, x: x @ p[0] + p[1][None], (jnp.asarray(KERNEL), jnp.asarray(BIAS)))


def moved(forward: rj.Forward, image: Any = IMAGE, **given: Any) -> np.ndarray:
    found = rj.signed(forward, jnp.asarray(image), **given)
    assert found.image.dtype == jnp.float64
    return np.asarray(found.image)


@BOTH
def test_of_linear_features_every_step_is_the_sum_of_the_weights(at: str) -> None:
    found = moved(linear(), iterations=7, step=0.3, at=at)
    expected = IMAGE + 7 * 0.3 * KERNEL.sum(1).reshape(IMAGE.shape[1:])
    assert_close(found, expected, np.float64)


@pytest.mark.parametrize(("at", "factor"), [("iterate", 1.331), ("original", 1.3)])
def test_of_squares_pixels_grow_by_a_factor(at: str, factor: float) -> None:
    found = moved(network(lambda _, x: x**2 / 2), iterations=3, step=0.1, at=at)
    assert_close(found, factor * IMAGE, np.float64)


@pytest.mark.parametrize(("at", "value"), [("iterate", 4.0), ("original", 3.0)])
def test_two_rectified_units_of_which_one_falls_silent(at: str, value: float) -> None:
    units = network(lambda _, x: jax.nn.relu(jnp.concatenate([x, 0.95 - 0.5 * x], axis=1)))
    found = moved(units, np.full((1, 1), 0.5), iterations=5, at=at)
    assert_close(found, np.full((1, 1), value), np.float64)


@BOTH
def test_of_orthonormal_rectified_units_the_active_ones_stay(at: str) -> None:
    rows = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    units = network(lambda w, x: jax.nn.relu(x @ w.T + BIAS[0]), jnp.asarray(rows))
    active = IMAGE.reshape(4, -1) @ rows.T + BIAS[0] > 0
    assert 0 < active.mean() < 1
    expected = IMAGE + 6 * (active @ rows).reshape(IMAGE.shape)
    assert_close(moved(units, iterations=6, at=at), expected, np.float64)


def test_without_biases_features_are_the_image_times_its_gradient() -> None:
    """Euler, of a network of degree one: convolution, maximum, mean, rectified units."""
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 1, 4)))

    def pooled(kernel: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        names = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)
        h = jax.nn.relu(h).reshape(len(x), 3, 2, 3, 2, 4).max((2, 4))
        return h.mean((1, 2)), h.mean((1, 2))

    forward = rj.from_function(pooled, kernel, head=lambda params: (jnp.eye(4), None))
    image = jnp.asarray(RNG.normal(size=(5, 6, 6, 1)))
    delta = rj.signed(forward, image, iterations=1).delta
    features = forward(image).features.sum(1)
    assert_close((image * delta).sum((1, 2, 3)), features, np.float64)
    assert np.all(np.asarray(features) > 0.1)


def conv() -> rj.Forward:
    """With BatchNorm, whose averages are not 0 and 1, and dropout."""
    forward = rf.bind(ConvNet(nnx.Rngs(0)), head="head")
    params, state = jax.tree.map(jnp.float64, (forward.params, forward.state))
    moved = jax.tree.map(lambda x: x + 0.3 * jnp.arange(4) if x.shape == (4,) else x, state)
    return forward.replace(params=params, state=moved)


@pytest.mark.slow
def test_images_do_not_know_of_each_other_and_several_counts_are_one_each() -> None:
    forward, image = conv(), jnp.asarray(RNG.normal(size=(3, 4, 4, 1)))
    move = jax.jit(functools.partial(rj.signed, iterations=(2, 0, 5), step=0.2))
    found = move(forward, image)
    each = [move(forward, image[i : i + 1]) for i in range(3)]
    joined = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *each)
    assert_close(found, joined, np.float64)
    for i, count in enumerate((2, 0, 5)):
        one = rj.signed(forward, image, iterations=count, step=0.2)
        assert_close(jax.tree.map(lambda x, i=i: x[i], found), one, np.float64)
    np.testing.assert_array_equal(found.image[1], image)


def test_means_are_sums_by_the_number_of_features_and_their_order_is_no_matter() -> None:
    forward = tanh_forward(jax.tree.map(jnp.float64, _tanh_params()))
    image = jnp.asarray(random_batch(3).image, jnp.float64)
    found = rj.signed(forward, image, iterations=3, step=0.5)
    mean = rj.signed(forward, image, iterations=3, step=0.5 * 5, reduce="mean")
    assert_close(found, mean, np.float64)
    order = RNG.permutation(5)
    shuffled = _tanh_params() | {
        "hidden": {n: x[..., order] for n, x in _tanh_params()["hidden"].items()}
    }
    other = rj.signed(
        tanh_forward(jax.tree.map(jnp.float64, shuffled)), image, iterations=3, step=0.5
    )
    assert_close(found, other, np.float64)


def _tanh_params() -> Any:
    return tanh_forward().params


def test_momentum_adds_up_as_a_geometric_series() -> None:
    found = moved(linear(), iterations=4, step=0.5, momentum=0.9)
    series = sum(sum(0.9**i for i in range(k)) for k in range(1, 5))
    expected = IMAGE + 0.5 * series * KERNEL.sum(1).reshape(IMAGE.shape[1:])
    assert_close(found, expected, np.float64)


@pytest.mark.parametrize("normalize", ["rms", "l2", "max"])
def test_a_normalised_gradient_has_size_one(normalize: str) -> None:
    slope = KERNEL.sum(1)
    size = {
        "rms": np.sqrt(np.mean(slope**2)),
        "l2": np.sqrt(np.sum(slope**2)),
        "max": np.abs(slope).max(),
    }[normalize]
    found = moved(linear(), iterations=3, step=0.1, normalize=normalize)
    assert_close(found, IMAGE + 0.3 * (slope / size).reshape(IMAGE.shape[1:]), np.float64)
    flat = network(lambda _, x: 0 * x)
    assert_close(moved(flat, iterations=3, normalize=normalize), IMAGE, np.float64)


@pytest.mark.parametrize("clip", [(-0.5, 0.75), "relu"])
def test_pixels_stay_within_the_bounds(clip: Any) -> None:
    """Each iteration is clipped, so that a pixel turns round at a bound."""
    bounds = (0, np.inf) if clip == "relu" else clip
    forward = network(lambda _, x: jnp.sin(3 * x))
    expected = IMAGE
    for _ in range(5):
        expected = np.clip(expected + 0.4 * 3 * np.cos(3 * expected), *bounds)
    found = moved(forward, iterations=(0, 5), step=0.4, clip=clip)
    np.testing.assert_array_equal(found[0], IMAGE)
    assert_close(found[1], expected, np.float64)
    single = rj.signed(forward, jnp.float32(IMAGE), iterations=5, step=0.4, clip=clip).image
    assert np.all((np.asarray(single) >= bounds[0]) & (np.asarray(single) <= bounds[1]))


def test_what_is_watched() -> None:
    found = rj.signed(
        network(lambda _, x: x**2 / 2), jnp.asarray(IMAGE), iterations=(0, 1, 3), step=0.1
    )
    change = np.array([0, 0.1, 0.331])[:, None]
    pixels = IMAGE.reshape(4, -1)
    assert_close(found.distance, change * np.abs(pixels).mean(1), np.float64)
    assert_close(found.negative, np.tile((pixels < 0).mean(1), (3, 1)), np.float64)
    assert_close(found.growth, np.tile([[0], [1], [1.21]], (1, 4)), np.float64)


def test_steps_far_below_a_pixels_rounding_error_add_up() -> None:
    image = jnp.full((1, 6), 0.7, jnp.float32)
    found = rj.signed(linear(), image, iterations=1000, step=1e-10)
    assert found.image.dtype == jnp.float32
    np.testing.assert_allclose(found.delta[0], 1e-7 * KERNEL.sum(1), rtol=1e-4)


def test_bfloat16_is_moved_in_float32() -> None:
    shape = jax.eval_shape(
        functools.partial(rj.signed, linear(), iterations=2), jnp.ones((2, 6), jnp.bfloat16)
    )
    assert {x.dtype for x in shape} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_devices_and_maps_change_nothing() -> None:
    forward = conv()
    image = jnp.asarray(RNG.normal(size=(8, 4, 4, 1)))
    move = functools.partial(rj.signed, iterations=(1, 3), step=0.2, clip=(-1.0, 1.0))
    expected = jax.jit(move)(forward, image)
    assert_close(move(forward, image), expected, np.float64)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split, out = PartitionSpec("data"), PartitionSpec(None, "data")
    mapped = jax.shard_map(move, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=out)
    assert_close(jax.jit(mapped)(forward, image), expected, np.float64)
    steps = jnp.array([0.0, 0.2])
    both = jax.vmap(
        lambda step: rj.signed(forward, image, iterations=(1, 3), step=step, clip=(-1.0, 1.0))
    )(steps)
    assert_close(jax.tree.map(lambda x: x[1], both), expected, np.float64)
    np.testing.assert_array_equal(both.image[0, 0], jnp.clip(image, -1, 1))


@pytest.mark.slow
def test_its_derivative_is_that_of_differences() -> None:
    forward = tanh_forward(jax.tree.map(jnp.float64, _tanh_params()))
    image = jnp.asarray(random_batch(2).image, jnp.float64)

    def of(image: jax.Array) -> jax.Array:
        found = rj.signed(forward, image, iterations=3, step=0.3, normalize="rms")
        return jnp.sum(found.image**2) + jnp.sum(found.growth)

    jax.test_util.check_grads(of, (image,), 1)


@pytest.mark.parametrize("name", ["small_cnn", "preact_resnet18(width=4)"])
def test_a_step_costs_at_most_three_forward_passes(name: str) -> None:
    """Loops multiplied out; three where gradients by the parameters are not dropped."""
    with jax.enable_x64(False):
        image = jnp.zeros((4, 32, 32, 3))
        forward = jax.eval_shape(networks.builder(name, image.shape[1:], 10), jax.random.key(0))
        one = flops(lambda f, x: f.frozen()(x).features, forward, image)
        moved = flops(lambda f, x: rj.signed(f, x, iterations=(5, 10)).image, forward, image)
    assert 10 * one < moved <= 10 * 3.2 * one


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"iterations": 2.5}, TypeError, "iterations must be a whole number, or several, got 2.5"),
        ({"iterations": (1, True)}, TypeError, "whole number"),
        ({"iterations": ()}, ValueError, r"at least 0, got \(\)"),
        ({"iterations": (3, -1)}, ValueError, r"at least 0, got \(3, -1\)"),
        ({"at": "start"}, ValueError, "at must be 'iterate' or 'original', but it is 'start'"),
        ({"normalize": "l1"}, ValueError, "normalize must be 'rms' or 'l2' or 'max'"),
        ({"reduce": "max"}, ValueError, "reduce must be 'sum' or 'mean'"),
        ({"clip": (1, 0)}, ValueError, r"clip must be None, 'relu' or \(low, high\), but it is"),
        ({"clip": "tanh"}, ValueError, "clip must be None"),
        ({"step": np.ones(3)}, ValueError, r"signed's step must be one number, got shape \[3\]"),
        ({"image": np.ones((1, 6), np.uint8)}, TypeError, "floating images, but they are uint8"),
    ],
)
def test_wrong_arguments_are_one_sentence(given: Any, kind: Any, says: str) -> None:
    image = given.pop("image", np.ones((1, 6)))
    with pytest.raises(kind, match=says):
        rj.signed(linear(), image, **{"iterations": 1} | given)


def test_a_network_without_features_is_refused() -> None:
    forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
    with pytest.raises(ValueError, match="needs the network's features"):
        rj.signed(forward, jnp.ones((1, 2)), iterations=1)
