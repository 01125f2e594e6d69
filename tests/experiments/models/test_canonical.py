"""Which form a convolution takes on a CPU; that the forms agree is in `test_layers.py`."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from experiments.models import convolution, layers
from experiments.models.windows import Window

HALVED = Window((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1)))


def operations(function, *arrays, of):
    program = jax.jit(function).lower(*arrays).as_text()
    return [line for line in program.splitlines() if f"stablehlo.{of}" in line]


def maps(x, kernel, groups=1):
    """The output, and what the other two maps make of it."""
    out, pull = jax.vjp(lambda x, k: layers.convolve(x, k, feature_group_count=groups), x, kernel)
    return out, *pull(out)


@pytest.mark.parametrize(
    ("channels", "filters", "width", "pixels"),
    [
        (3, 16, 32, 4),
        (3, 32, 32, 2),
        (1, 8, 28, 4),  # eight do not fit into a row a whole number of times
        (16, 16, 32, 2),
        (16, 16, 7, 1),
        (64, 64, 32, 1),
        (32, 1, 32, 4),
    ],
)
def test_few_filters_see_several_pixels_at_once(channels, filters, width, pixels):
    x, kernel = jnp.ones((2, 8, width, channels)), jnp.ones((3, 3, channels, filters))
    (line,) = operations(layers.convolve, x, kernel, of="convolution")
    assert f"-> tensor<2x8x{width // pixels}x{pixels * filters}xf32>" in line


def test_so_do_the_maps_to_the_image_and_to_the_kernel():
    x, kernel = jnp.ones((2, 8, 32, 16)), jnp.ones((3, 3, 16, 8))
    of_output, of_image, of_kernel = sorted(
        operations(maps, x, kernel, of="convolution"), key=lambda line: "-> tensor<16x" in line
    )
    assert "-> tensor<2x8x8x32xf32>" in of_output  # four pixels of 8 filters
    assert "-> tensor<2x8x16x32xf32>" in of_image  # two of 16 channels
    assert "-> tensor<16x3x6x32xf32>" in of_kernel  # four of 8 filters, three more columns


@pytest.mark.parametrize(("channels", "dilated"), [(16, 0), (3, 1)])
def test_strided_maps_to_the_image_leave_out_the_zeros(channels, dilated):
    x, kernel = jnp.ones((2, 8, 8, channels)), jnp.ones((3, 3, channels, 32))

    def image(y, kernel):
        def convolve(x):
            return layers.convolve(x, kernel, (2, 2), ((1, 1), (1, 1)))

        return jax.linear_transpose(convolve, x)(y)

    lines = operations(image, jnp.ones((2, 4, 4, 32)), kernel, of="convolution")
    assert sum("lhs_dilate = [2, 2]" in line for line in lines) == dilated
    if not dilated:  # even rows see one row of the kernel, odd ones two
        kernels = ["tensor<1x2x32x32xf32>", "tensor<2x2x32x32xf32>"]
        assert [next(k for k in kernels if k in line) for line in lines] == kernels


@pytest.mark.parametrize(("shape", "side"), [((2, 2, 64), 3), ((2, 9, 4), 3), ((8, 8, 4), 1)])
def test_kernels_of_a_pixel_or_larger_than_images_are_products_of_matrices(shape, side):
    """XLA's convolution takes up to a hundred times as long for the larger ones."""
    arrays = jnp.ones((2, *shape)), jnp.ones((side, side, shape[-1], 5))
    assert not operations(maps, *arrays, of="convolution")
    assert operations(maps, *arrays, of="dot_general")


@pytest.mark.parametrize(
    ("groups", "pixels", "loops"),
    [(1, 8, 3), (1, 4, 0), (4, 8, 6), (4, 4, 0)],  # a model's groups are looped over too
)
def test_models_take_turns_where_their_patches_are_many(groups, pixels, loops, monkeypatch):
    # Of 2 models of 2 images of 8 channels, with 3 x 3 numbers at each pixel.
    monkeypatch.setattr(convolution, "FEW_NUMBERS", 2 * 2 * 8 * 9 * 7 * 7)
    x, kernel = jnp.ones((2, 2, pixels, pixels, 8)), jnp.ones((2, 3, 3, 8 // groups, 8))

    def both(x, kernel):
        return jax.vmap(lambda x, k: maps(x, k, groups))(x, kernel)

    assert len(operations(both, x, kernel, of="while")) == loops


def test_models_are_exported_for_any_number_of_images():
    kernels = jnp.ones((2, 3, 3, 3, 8))

    def both(x):
        return jax.vmap(lambda kernel: layers.convolve(x, kernel))(kernels)

    (count,) = jax.export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((count, 8, 8, 3), jnp.float32)
    (out,) = jax.export.export(jax.jit(both))(images).out_avals
    assert out.shape == (2, count, 8, 8, 8)


def test_strided_maps_to_the_image_are_exported_for_any_number_of_images():
    kernel = jnp.ones((4, 4, 8, 3))

    def image(y):
        return convolution.transposed(y, kernel, HALVED)

    (count,) = jax.export.symbolic_shape("b")
    for each in (image, jax.vmap(lambda one: image(one[None])[0])):
        outputs = jax.ShapeDtypeStruct((count, 4, 4, 3), jnp.float32)
        (out,) = jax.export.export(jax.jit(each))(outputs).out_avals
        assert out.shape == (count, 8, 8, 8)


def test_no_images_have_a_gradient_of_zero():
    out = maps(jnp.ones((0, 8, 8, 3)), jnp.ones((3, 3, 3, 8)))
    assert [a.shape for a in out] == [(0, 8, 8, 8), (0, 8, 8, 3), (3, 3, 3, 8)]
    assert not out[2].any()


def test_images_may_be_sharded_explicitly():
    mesh = jax.make_mesh((4,), ("data",))
    x, kernel = jnp.ones((4, 8, 8, 3)), jnp.ones((3, 3, 3, 8))
    with jax.set_mesh(mesh):
        x = jax.device_put(x, PartitionSpec("data"))
        assert jax.jit(layers.convolve)(x, kernel).shape == (4, 8, 8, 8)
        image = jax.jit(lambda y, k: convolution.transposed(y, k, HALVED))
        outputs = jax.device_put(jnp.ones((4, 4, 4, 3)), PartitionSpec("data"))
        found = image(outputs, jnp.ones((4, 4, 8, 3)))
        assert found.shape == (4, 8, 8, 8)
        assert found.sharding.spec[0] == "data"
