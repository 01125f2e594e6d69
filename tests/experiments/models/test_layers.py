"""The layers beside the native operations: values and derivatives of every order and mode.

Covers the values of `canonical.py`, `convolution.py` and `depthwise.py` too.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.test_util import check_grads

from experiments import compiled_for, models
from experiments.models import canonical, convolution, layers

# image [H, W, K], kernel [h, w], filters, strides, padding, groups
CASES = {
    "same": ((7, 6, 5), (3, 3), 4, (1, 1), "SAME", 1),
    "few channels": ((6, 6, 3), (3, 3), 4, (1, 1), "SAME", 1),
    "eight pixels at once": ((3, 8, 3), (3, 3), 8, (1, 1), "SAME", 1),
    "strided, few filters": ((5, 8, 6), (2, 3), 2, (2, 2), ((0, 1), (1, 0)), 1),
    "valid": ((8, 7, 6), (3, 2), 3, (1, 1), "VALID", 1),
    "strided": ((9, 8, 6), (3, 3), 4, (2, 2), "SAME", 1),
    "uneven strides": ((9, 10, 5), (2, 3), 3, (3, 2), "VALID", 1),
    "strided, few channels": ((8, 9, 2), (3, 3), 4, (2, 3), "SAME", 1),
    "pixelwise": ((8, 8, 6), (1, 1), 4, (2, 2), "SAME", 1),
    "wide padding": ((5, 6, 5), (3, 3), 4, (2, 1), ((3, 4), (0, 5)), 1),
    "cropping": ((8, 8, 5), (3, 3), 4, (1, 1), ((-1, 0), (0, -2)), 1),
    "cropping and padding": ((5, 6, 6), (2, 2), 10, (1, 1), ((-1, 1), (0, 0)), 1),
    "phases": ((8, 6, 6), (3, 3), 4, (2, 2), "SAME", 1),
    "cropped away": ((4, 4, 5), (3, 3), 4, (1, 2), ((-5, 8), (7, -4)), 1),
    "uneven phases": ((6, 8, 5), (4, 5), 3, (3, 2), ((2, 0), (0, 3)), 1),
    "grouped": ((5, 6, 24), (3, 3), 12, (1, 1), "SAME", 4),  # two blocks of two groups
    "two each, strided": ((7, 7, 4), (3, 3), 8, (2, 2), "SAME", 4),
    "depthwise": ((6, 7, 5), (3, 2), 5, (1, 1), "SAME", 5),
    "depthwise, strided": ((8, 7, 4), (5, 3), 4, (2, 3), ((1, 4), (-1, 2)), 4),
}
# Depthwise convolutions have one form only.
FORMS = [(case, "patches") for case in CASES]
FORMS += [(case, "canonical") for case in CASES if "depthwise" not in case]


def native(x, kernel, strides, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def ours(x, kernel, strides, padding, groups):
    return layers.convolve(x, kernel, strides, padding, feature_group_count=groups)


def sample(case, dtype=np.float64, batch=3):
    image, size, filters, *geometry = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *image))
    kernel = rng.normal(size=(*size, image[-1] // geometry[-1], filters))
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype), geometry


def assert_close(a, b, tolerance=1e-10):
    def close(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        # Sums of terms as large as the largest entry cancel in the smaller ones.
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)

    jax.tree.map(close, a, b)


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def energy(convolve, geometry):
    """A nonlinear loss that contains an input gradient: its derivatives reach every rule."""

    def loss(x, kernel):
        value, pullback = jax.vjp(lambda x: jnp.sin(convolve(x, kernel, *geometry)), x)
        return jnp.sum(value**2) + jnp.sum(pullback(jnp.cos(value))[0] ** 2)

    return loss


def everything(convolve, geometry):
    """Value, a forward derivative, and a forward derivative of the reverse one, in one program."""
    loss = energy(convolve, geometry)

    def compute(x, kernel):
        along = (jnp.cos(x), jnp.cos(kernel))
        return (
            convolve(x, kernel, *geometry),
            jax.jvp(loss, (x, kernel), along),
            jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), along),
        )

    return compute


@pytest.mark.parametrize(("case", "form"), FORMS)
def test_values_and_derivatives_equal_the_native_ones(case, form, double, monkeypatch):
    monkeypatch.setattr(convolution, "by_patches", lambda window: form == "patches")
    monkeypatch.setattr(canonical, "CHUNK", 2)
    x, kernel, geometry = sample(case)
    assert_close(*(jax.jit(everything(f, geometry))(x, kernel) for f in (ours, native)))


@pytest.mark.parametrize("case", ["strided", pytest.param("grouped", marks=pytest.mark.slow)])
def test_derivatives_are_right_to_second_order_in_both_modes(case, double):
    x, kernel, geometry = sample(case, batch=1)
    check_grads(jax.jit(energy(ours, geometry)), (x, kernel / 8), order=2)


def test_gradient_of_a_gradient_of_a_gradient(double):
    x, kernel, geometry = sample("strided")

    def third(convolve):
        second = jax.grad(energy(convolve, geometry))
        return jax.jit(jax.grad(lambda x, k: jnp.sum(second(x, k) ** 2), (0, 1)))(x, kernel)

    assert_close(third(ours), third(native))


BATCHED = {
    "same": (0, 0),
    "strided, few channels": (None, 0),
    "grouped": (1, None),
    "depthwise, strided": None,
}


@pytest.mark.parametrize("few", [0, 2**20])
@pytest.mark.parametrize(
    ("case", "batched"),
    [
        pytest.param(case, axes, marks=() if BATCHED[case] == axes else pytest.mark.slow)
        for case, axes in itertools.product(BATCHED, filter(None, BATCHED.values()))
    ],
)
def test_vmap_equals_the_native_one(case, batched, few, double, monkeypatch):
    monkeypatch.setattr(convolution, "FEW_NUMBERS", few)  # the models take turns, or do not
    x, kernel, geometry = sample(case)
    stack = [
        a if axis is None else jnp.stack([a, 2 - a, a / 2], axis)
        for a, axis in zip((x, kernel), batched, strict=True)
    ]
    assert_close(
        *(jax.jit(jax.vmap(everything(f, geometry), batched))(*stack) for f in (ours, native))
    )
    vmapped = [
        jax.grad(
            lambda x, k, f=f: jnp.sum(jax.vmap(everything(f, geometry), batched)(x, k)[0] ** 3),
            (0, 1),
        )
        for f in (ours, native)
    ]
    assert_close(*(jax.jit(f)(*stack) for f in vmapped))


def test_vmap_of_vmap(double):
    x, kernel, geometry = sample("same")
    xs, kernels = jnp.stack([x, -x]), jnp.stack([kernel, 2 * kernel, 3 * kernel])
    twice = [
        jax.vmap(jax.vmap(lambda x, k, f=f: f(x, k, *geometry), (None, 0)), (0, None))
        for f in (ours, native)
    ]
    assert_close(*(jax.jit(f)(xs, kernels) for f in twice))


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.04)])
@pytest.mark.parametrize("form", ["patches", "canonical"])
def test_single_and_half_precision(dtype, tolerance, form, monkeypatch):
    monkeypatch.setattr(convolution, "by_patches", lambda window: form == "patches")
    monkeypatch.setattr(canonical, "CHUNK", 2)
    x, kernel, geometry = sample("strided", dtype)

    def gradients(f):
        value, pullback = jax.vjp(lambda x, k: f(x, k, *geometry), x, kernel)
        return value, *pullback(jnp.ones_like(value))

    got, want = jax.jit(lambda: gradients(ours))(), jax.jit(lambda: gradients(native))()
    assert all(a.dtype == dtype for a in got)
    assert_close(got, want, tolerance)


@pytest.mark.parametrize(
    "case", ["cropping", "cropping and padding", "wide padding", "phases", "uneven phases"]
)
def test_single_precision_is_near_to_double(case, monkeypatch):
    """XLA's own convolutions are not, where a crop on one side meets padding on the other."""
    monkeypatch.setattr(convolution, "by_patches", lambda window: False)

    def slopes(dtype):
        x, kernel, geometry = sample(case, dtype)
        return jax.jit(jax.value_and_grad(energy(ours, geometry), (0, 1)))(x, kernel)

    got = slopes(np.float32)
    with jax.enable_x64(True):
        want = slopes(np.float64)
    assert_close(got, want, 1e-5)


@pytest.mark.parametrize(
    ("case", "check"),
    [
        ("same", True),
        ("same", False),
        pytest.param("grouped", True, marks=pytest.mark.slow),
        pytest.param("depthwise", True, marks=pytest.mark.slow),
    ],
)
def test_shard_map_equals_one_device(case, check):
    x, kernel, geometry = sample(case, np.float32, batch=8)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    data, whole = jax.sharding.PartitionSpec("data"), jax.sharding.PartitionSpec()

    def both(x, kernel):
        value, pullback = jax.vjp(lambda x: ours(x, kernel, *geometry), x)
        return value, *pullback(value)

    sharded = jax.shard_map(
        both, mesh=mesh, in_specs=(data, whole), out_specs=(data, data), check_vma=check
    )
    assert_close(jax.jit(sharded)(x, kernel), both(x, kernel), 1e-4)


def test_an_unmodified_flax_convolution_uses_it():
    kwargs = {"strides": 2, "padding": "VALID", "feature_group_count": 2}
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 4))
    mine, theirs = (
        make(4, 6, (3, 3), **kwargs, rngs=nnx.Rngs(0)) for make in (layers.Conv, nnx.Conv)
    )
    theirs.kernel[...] = mine.kernel[...]
    assert_close(mine(x), theirs(x), 1e-5)


@pytest.mark.parametrize("groups", [3, 12])
def test_on_accelerators_groups_are_native(groups):
    arrays = jnp.ones((2, 5, 5, 12)), jnp.ones((3, 3, 12 // groups, 24))

    def program():
        make = jax.make_jaxpr(lambda x, k: layers.convolve(x, k, feature_group_count=groups))
        return str(make(*arrays))

    with compiled_for("tpu"):
        assert f"feature_group_count={groups}" in program()
    assert "conv_general_dilated" not in program()


def test_depthwise_convolutions_are_neither_convolutions_nor_products_of_matrices():
    def slopes(x, kernel):
        convolve = functools.partial(layers.convolve, feature_group_count=6)
        return jax.grad(lambda x, k: jnp.sum(convolve(x, k) ** 2), (0, 1))(x, kernel)

    for shape, each in (((2, 5, 5, 6), slopes), ((3, 2, 5, 5, 6), jax.vmap(slopes, (0, None)))):
        program = jax.jit(each).lower(jnp.ones(shape), jnp.ones((3, 3, 1, 6))).as_text()
        assert "stablehlo.multiply" in program
        assert "stablehlo.convolution" not in program
        assert "stablehlo.dot_general" not in program


def test_other_convolutions_are_handed_over():
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 4))
    dilated = layers.Conv(4, 6, (3, 3), kernel_dilation=2, rngs=nnx.Rngs(0))
    native_layer = nnx.Conv(4, 6, (3, 3), kernel_dilation=2, rngs=nnx.Rngs(0))
    native_layer.kernel[...] = dilated.kernel[...]
    assert_close(dilated(x), native_layer(x), 1e-6)
    assert layers.Conv(4, 6, (3,), rngs=nnx.Rngs(0))(x[0]).shape == (9, 9, 6)


POOLS = [((2, 2), (2, 2), "VALID"), ((3, 2), (2, 1), "SAME"), ((2, 2), (2, 2), "SAME")]


@pytest.mark.parametrize(("window", "strides", "padding"), POOLS)
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_equals_the_native_one(kind, window, strides, padding, double):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 9, 3)))
    mine, theirs = {
        "max": (layers.max_pool, nnx.max_pool),
        "avg": (layers.avg_pool, nnx.avg_pool),
    }[kind]

    def loss(pool):
        return lambda x: jnp.sum(jnp.sin(pool(x, window, strides, padding)) * jnp.sum(x))

    assert_close(mine(x, window, strides, padding), theirs(x, window, strides, padding))
    assert_close(jax.grad(loss(mine))(x), jax.grad(loss(theirs))(x))
    hessian = [
        jax.jit(jax.jvp, static_argnums=0)(jax.grad(loss(f)), (x,), (x,)) for f in (mine, theirs)
    ]
    assert_close(*hessian)


def test_equal_pixels_share_the_gradient_of_a_maximum(double):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 7, 6, 3)), jnp.float64)

    def tiles(x):
        return jnp.max(x[:, :6].reshape(2, 3, 2, 3, 2, 3), axis=(2, 4))

    def loss(pool):
        return lambda x: jnp.sum(jnp.sin(pool(x) + jnp.sum(pool(x * x))))

    for f in (jax.grad, jax.hessian):
        assert_close(f(loss(layers.max_pool))(x), f(loss(tiles))(x))
    assert np.isnan(layers.max_pool(x.at[0, 1, 1, 1].set(jnp.nan))[0, 0, 0, 1])


def test_large_tiles_share_the_gradient_in_half_precision_too():
    ones = jnp.ones((1, 33, 33, 1), jnp.bfloat16)
    _, slope = jax.jvp(lambda x: layers.max_pool(x, (33, 33)), (ones,), (ones,))
    assert slope == 1


def test_no_pass_writes_down_which_pixels_are_largest():
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(layers.max_pool(x))))
    compiled = jax.jit(gradient).lower(jnp.ones((8, 32, 32, 16))).compile()
    # The maxima and what flows to them, and no more.
    assert compiled.memory_analysis().temp_size_in_bytes < 0.6 * 8 * 32 * 32 * 16 * 4


@pytest.mark.parametrize("name", ["cnn13", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_images_that_are_too_small_are_refused_in_words(name):
    network = nnx.eval_shape(lambda: models.create(name, (8, 8, 1), 10, nnx.Rngs(0)))
    graph, state = nnx.split(network)
    with pytest.raises(ValueError, match="images are too small for this network"):
        jax.eval_shape(lambda s: nnx.merge(graph, s)(jnp.ones((2, 8, 8, 1))), state)
