"""Generators and critics have the published sizes, and make images of other sizes too.

Covers `dcgan.py`, `acgan.py`, `infogan.py` and `transposed.py` too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support import assert_close

from experiments import compiled_for
from experiments.models import generators
from experiments.models.transposed import transpose
from experiments.models.windows import Window


def sizes_of(text, sizes):
    """The numbers of parameters of both, and the shapes of an image and of a critic's outputs."""
    pair, latents = generators.read(text)
    assert latents == 100

    def made():
        models = generators.create(pair, sizes, jax.random.key(0))
        image = models["generator"](jnp.zeros((2, sizes.inputs)))
        maps = jnp.zeros((*image.shape[:-1], sizes.maps))
        out = models["critic"](jnp.concatenate([image, maps], -1))
        params = {name: nnx.to_pure_dict(nnx.state(m, nnx.Param)) for name, m in models.items()}
        return params, image, out

    params, image, out = jax.eval_shape(made)
    count = {n: sum(int(np.prod(x.shape)) for x in jax.tree.leaves(p)) for n, p in params.items()}
    return (count["generator"], count["critic"]), image.shape[1:], out.shape


@pytest.mark.parametrize(
    ("text", "inputs", "outputs", "counts"),
    [
        ("dcgan", 100, 0, (1_068_928, 663_296)),
        ("acgan", 110, 10, (1_593_888, 1_663_867)),
        ("infogan", 112, 12, (2_700_483, 659_648 + 4_097 + 526_220)),
    ],
)
def test_the_published_numbers_of_parameters(text, inputs, outputs, counts):
    shape = (32, 32, 3)
    found = sizes_of(text, generators.Sizes(shape, inputs, 0, outputs))
    assert found == (counts, shape, (2, 1 + outputs))


@pytest.mark.parametrize("text", ["dcgan(width=4)", "acgan(width=4)", "infogan(width=4)"])
@pytest.mark.parametrize("side", [28, pytest.param(8, marks=pytest.mark.slow)])
def test_other_images_and_narrow_networks(text, side):
    _, image, out = sizes_of(text, generators.Sizes((side, side, 1), 20, 3, 5))
    assert image == (side, side, 1)
    assert out == (2, 6)


@pytest.mark.parametrize(
    "text", ["resnet8", "dcgan(depth=3)", "dcgan(width=0)", "dcgan(latents=1.5)", "dcgan("]
)
def test_another_expression_is_refused(text):
    with pytest.raises(ValueError, match="dcgan"):
        generators.read(text)


def test_images_of_another_form_are_refused():
    pair, _ = generators.read("dcgan")
    for shape in ((9, 9, 1), (8, 16, 1)):
        with pytest.raises(ValueError, match="square images"):
            generators.create(pair, generators.Sizes(shape, 5, 0, 0), jax.random.key(0))


@pytest.mark.parametrize("platform", ["cpu", pytest.param("gpu", marks=pytest.mark.slow)])
def test_a_transposed_convolution_adds_a_kernel_for_each_pixel(platform):
    rng = np.random.default_rng(0)
    size, stride, cut, side = 4, 2, 1, 3
    y, kernel = rng.normal(size=(2, side, side, 3)), rng.normal(size=(size, size, 2, 3))
    whole = np.zeros((2, stride * (side - 1) + size, stride * (side - 1) + size, 2))
    for i in range(side):
        for j in range(side):
            part = np.einsum("bk,hwok->bhwo", y[:, i, j], kernel)
            whole[:, stride * i : stride * i + size, stride * j : stride * j + size] += part
    expected = whole[:, cut:-cut, cut:-cut]
    window = Window(expected.shape[1:3], (size, size), (stride, stride), ((cut, cut),) * 2)
    y, kernel = (jnp.asarray(x, jnp.float32) for x in (y, kernel))
    with compiled_for(platform):
        assert_close(transpose(y, kernel, window), jnp.asarray(expected, jnp.float32))
