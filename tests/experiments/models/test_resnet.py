"""Bottleneck networks: the published shapes, the place of the stride, taps, a block by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_checks import abstract, parameters

import regjax.flax as rf
from experiments import models
from experiments.models import resnet

SHAPE = (224, 224, 3)
# He et al., table 1: blocks, the width inside and the size of the output of each stage.
PUBLISHED = ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7))


@pytest.fixture(scope="module")
def model():
    return abstract("resnet50", SHAPE, 1000)


def test_kernels_are_the_published_ones(model):
    assert model.conv.kernel.shape == (7, 7, 3, 64)
    channels = 64
    for stage, (blocks, width, _) in zip(model.stages, PUBLISHED, strict=True):
        assert len(stage.layers) == blocks
        for i, block in enumerate(stage.layers):
            assert block.conv1.kernel.shape == (1, 1, channels, width)
            assert block.conv2.kernel.shape == (3, 3, width, width)
            assert block.conv3.kernel.shape == (1, 1, width, 4 * width)
            assert block.project == (i == 0)
            if i == 0:
                assert block.shortcut.kernel.shape == (1, 1, channels, 4 * width)
            channels = 4 * width
    assert model.head.kernel.shape == (2048, 1000)
    assert model.head.bias.shape == (1000,)


def test_taps_reach_the_stages_whose_outputs_have_the_published_sizes():
    shapes = {}

    def outputs(x):
        model = models.create("resnet50", SHAPE, 1000, nnx.Rngs(0))

        def tap(layer, h):
            shapes[layer] = h.shape
            return h

        result = rf.bind(model, head="head")(x, tap=tap)
        return result.logits, result.features

    logits, features = jax.eval_shape(outputs, jnp.ones((2, *SHAPE)))
    assert shapes["input"] == (2, *SHAPE)
    for i, (_, width, size) in enumerate(PUBLISHED):
        assert shapes[f"stages.{i}"] == (2, size, size, 4 * width)
    assert logits.shape == (2, 1000)
    assert features.shape == (2, 2048)


@pytest.mark.parametrize("shape", [(32, 32, 3), (33, 47, 1)])
def test_images_of_other_sizes_are_pooled_whole(shape):
    graph, state = nnx.split(abstract("resnet50", shape, 7))
    images = jnp.ones((2, *shape))
    assert jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, images).shape == (2, 7)


def test_the_stride_is_in_the_3x3_convolution():
    block = resnet.Bottleneck(4, 2, 2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 4))
    assert block.conv1(x).shape == (1, 6, 6, 2)
    assert block.conv2(block.conv1(x)).shape == (1, 3, 3, 2)
    # With the stride in the 1x1, every second pixel would not reach the branch.
    slope = jax.grad(lambda x: jnp.sum(block.conv2(block.conv1(x)) ** 2))(x)
    assert np.all(np.abs(slope).max(axis=-1) > 0)


def test_a_block_without_its_branch_is_the_relu_of_its_input():
    block = resnet.Bottleneck(8, 2, 1, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(block.norm3.scale[...], np.ones(8))  # no zero at the start
    block.norm3.scale[...] = jnp.zeros(8)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    np.testing.assert_array_equal(block(x), np.maximum(x, 0))


def test_a_block_is_what_numpy_computes():
    block = resnet.Bottleneck(3, 2, 2, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))

    def normed(h):
        return (h - h.mean((0, 1, 2))) / np.sqrt(h.var((0, 1, 2)) + 1e-5)

    def kernel(conv):
        return np.asarray(conv.kernel[...], np.float64)

    h = np.maximum(normed(x @ kernel(block.conv1)[0, 0]), 0)
    padded = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(i, j) for i in range(3) for j in range(3)]
    h = sum(padded[:, i : i + 6 : 2, j : j + 6 : 2] @ kernel(block.conv2)[i, j] for i, j in taps)
    h = normed(np.maximum(normed(h), 0) @ kernel(block.conv3)[0, 0])
    expected = np.maximum(h + normed(x[:, ::2, ::2] @ kernel(block.shortcut)[0, 0]), 0)
    np.testing.assert_allclose(block(jnp.asarray(x, jnp.float32)), expected, atol=1e-4)


@pytest.mark.slow
def test_the_linear_layer_starts_as_torchs():
    model = resnet.CifarResNeXt((8, 8, 3), 10, depth=11, groups=1, group_width=1, rngs=nnx.Rngs(0))
    for array in (model.head.kernel[...], model.head.bias[...]):
        assert 0.7 / 32 < np.abs(array).max() <= 1 / 32


@pytest.mark.parametrize(
    ("name", "widths", "groups"),
    [
        ("resnext29_8x64d", (512, 1024, 2048), 8),
        ("resnext50_32x4d", (128, 256, 512, 1024), 32),
    ],
)
def test_the_groups_of_a_resnext_have_the_published_widths(name, widths, groups):
    model = abstract(name, (32, 32, 3) if "29" in name else SHAPE, 10)
    for stage, width in zip(model.stages, widths, strict=True):
        for block in stage.layers:
            assert block.conv1.kernel.shape[-1] == width
            assert block.conv2.kernel.shape == (3, 3, width // groups, width)


def arrays(model):
    """The shapes of parameters and averages by their paths."""
    leaves = jax.tree.leaves_with_path(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize(
    ("depth", "backbone"), [(50, 23_631_808), pytest.param(101, 42_623_936, marks=pytest.mark.slow)]
)
def test_a_deep_stem_makes_the_backbone_of_a_dilated_network(depth, backbone):
    """By name and shape, but for the classifier; 101 layers as counted in the ISDA program."""
    model = abstract(f"resnet{depth}(deep=True)", SHAPE, 1000)
    dilated = abstract(f"pspnet(backbone='resnet{depth}')", (65, 65, 3), 19).backbone
    head = 2048 * 1000 + 1000
    assert parameters(model) - head == parameters(dilated) == backbone
    ours, theirs = arrays(model), arrays(dilated)
    assert theirs.items() <= ours.items()
    assert all("head" in path for path in ours.keys() - theirs.keys())


def test_a_deep_stem_halves_the_image_and_the_pool_again():
    graph, state = nnx.split(abstract("resnet50(deep=True)", SHAPE, 7))
    images = jnp.ones((2, *SHAPE))
    stem = lambda s, x: nnx.merge(graph, s).stem(x)  # noqa: E731
    assert jax.eval_shape(stem, state, images).shape == (2, 112, 112, 128)
    assert jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, images).shape == (2, 7)


def test_a_deep_stem_is_three_convolutions_by_numpy():
    stem = resnet.DeepStem(3, 2, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    h = x
    for conv, stride in zip(stem.convs, (2, 1, 1), strict=True):
        padded = np.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
        side, kernel = h.shape[1], np.asarray(conv.kernel[...], np.float64)
        taps = [(i, j) for i in range(3) for j in range(3)]
        h = sum(
            padded[:, i : i + side : stride, j : j + side : stride] @ kernel[i, j] for i, j in taps
        )
        h = np.maximum((h - h.mean((0, 1, 2))) / np.sqrt(h.var((0, 1, 2)) + 1e-5), 0)
    np.testing.assert_allclose(stem(jnp.asarray(x, jnp.float32)), h, atol=1e-4)
