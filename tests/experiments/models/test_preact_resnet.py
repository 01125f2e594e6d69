"""Pre-activation ResNets: the published shapes and counts, taps, and a block by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import regjax.flax as rf
from experiments import models
from experiments.models import preact_resnet

SHAPE = (32, 32, 3)
# Name, classes, parameters; filters and blocks of the stages, sizes of their outputs.
PUBLISHED = (
    ("preact_resnet18", 10, 11_172_170, (64, 128, 256, 512), 2),
    ("preact_resnet18(as_in_program=True)", 10, 11_171_146, (64, 128, 256, 512), 2),
    ("wide_resnet18", 100, 44_751_588, (128, 256, 512, 1024), 2),
    ("wide_resnet28_10", 10, 36_479_194, (160, 320, 640), 4),
)


def shapes(name, classes=10):
    return nnx.eval_shape(lambda: models.create(name, SHAPE, classes, nnx.Rngs(0)))


@pytest.mark.parametrize(("name", "classes", "parameters", "filters", "blocks"), PUBLISHED)
def test_the_published_architecture(name, classes, parameters, filters, blocks):
    model = shapes(name, classes)
    assert sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))) == parameters
    channels = 16 if "28" in name else filters[0]
    assert model.conv.kernel.shape == (3, 3, 3, channels)
    for stage, width in zip(model.stages, filters, strict=True):
        assert len(stage.layers) == blocks
        for block in stage.layers:
            assert block.norm1.scale.shape == (channels,)
            assert block.conv1.kernel.shape == (3, 3, channels, width)
            assert block.conv2.kernel.shape == (3, 3, width, width)
            assert block.project == (channels != width)
            if block.project:
                assert block.shortcut.kernel.shape == (1, 1, channels, width)
            channels = width
    assert model.head.kernel.shape == (channels, classes)


@pytest.mark.parametrize(("name", "classes", "parameters", "filters", "blocks"), PUBLISHED)
def test_taps_reach_the_stages(name, classes, parameters, filters, blocks):
    seen = {}

    def outputs(x):
        model = models.create(name, SHAPE, classes, nnx.Rngs(0))

        def tap(layer, h):
            seen[layer] = h.shape
            return h

        result = rf.bind(model, head="head")(x, tap=tap)
        return result.logits, result.features

    logits, features = jax.eval_shape(outputs, jnp.ones((2, *SHAPE)))
    assert seen["input"] == (2, *SHAPE)
    for i, width in enumerate(filters):
        assert seen[f"stages.{i}"] == (2, 32 >> i, 32 >> i, width)
    assert logits.shape == (2, classes)
    assert features.shape == (2, filters[-1])


def normed(h):
    return np.maximum((h - h.mean((0, 1, 2))) / np.sqrt(h.var((0, 1, 2)) + 1e-5), 0)


def convolved(h, conv, stride):
    kernel = np.asarray(conv.kernel[...], np.float64)
    size = len(kernel)
    edge, (rows, columns) = size // 2, h.shape[1:3]
    padded = np.pad(h, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    return sum(
        padded[:, i : i + rows : stride, j : j + columns : stride] @ kernel[i, j]
        for i in range(size)
        for j in range(size)
    )


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize(("filters", "stride"), [(3, 1), (5, 2)])
def test_a_block_is_what_numpy_computes(filters, stride, activated):
    block = preact_resnet.PreActBlock(
        3, filters, stride, dropout=0.0, as_in_program=activated, rngs=nnx.Rngs(0)
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    h = normed(x)
    skip = convolved(h, block.shortcut, stride) if stride == 2 else h if activated else x
    inner = convolved(normed(convolved(h, block.conv1, stride)), block.conv2, 1)
    np.testing.assert_allclose(block(jnp.asarray(x, jnp.float32)), skip + inner, atol=1e-4)


def test_the_last_activation_is_missing_in_the_program_only():
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    for in_program in (False, True):
        text = f"preact_resnet18(width=2, as_in_program={in_program})"
        model = models.create(text, (8, 8, 3), 10, nnx.Rngs(0))
        h = model.conv(x)
        for stage in model.stages:
            h = stage(h)
        h = np.asarray(h, np.float64)
        features = (h if in_program else normed(h)).mean((1, 2))
        head = model.head
        expected = features @ np.asarray(head.kernel[...]) + np.asarray(head.bias[...])
        np.testing.assert_allclose(model(x), expected, atol=1e-4)


def test_dropout_is_between_the_convolutions_in_training_only():
    model = models.create("wide_resnet28_10(width=1, dropout=0.5)", (8, 8, 3), 10, nnx.Rngs(0))
    bound = 64**-0.5  # the linear layer starts as torch's
    for array in (model.head.kernel[...], model.head.bias[...]):
        assert 0.7 * bound < np.abs(array).max() <= bound
    block = model.stages[0].layers[1]
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 16))
    assert np.any(np.asarray(block(x)) != np.asarray(block(x)))
    block.conv2.kernel[...] = jnp.zeros((3, 3, 16, 16))
    np.testing.assert_array_equal(block(x), x)
    model.eval()
    inputs = jnp.ones((1, 8, 8, 3))
    np.testing.assert_array_equal(model(inputs), model(inputs))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preact_resnet18(widt=8)", "takes width, as_in_program, but was given 'widt'"),
        ("preact_resnet18(width=0.5)", "width must be a whole number from 1 to 65535, not 0.5"),
        ("wide_resnet18(width=0)", "width must be a whole number from 1 to 65535, not 0"),
        ("wide_resnet28_10(width=True)", "width must be a whole number .* not True"),
        ("preact_resnet18(as_in_program=1)", "as_in_program must be True or False, not 1"),
        ("wide_resnet28_10(dropout=1.0)", "dropout must be a rate from 0.0 to below 1.0, not 1.0"),
        (
            "wide_resnet28_10(dropout=-0.5)",
            "dropout must be a rate from 0.0 to below 1.0, not -0.5",
        ),
        ("preact_resnet18(64)", "cannot be read: write a name with keyword arguments"),
        ("resnet50(width=2)", "takes depth, groups, group_width, deep, but was given 'width'"),
    ],
)
def test_wrong_arguments_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        models.create(text, SHAPE, 10, nnx.Rngs(0))


def test_in_the_program_training_begins_from_torchs_default_parameters() -> None:
    for in_program in (False, True):
        network = preact_resnet.preact_resnet18(
            (8, 8, 3), 10, width=32, as_in_program=in_program, rngs=nnx.Rngs(0)
        )
        kernel = np.asarray(network.stages[1].layers[1].conv1.kernel[...])
        fan_in = kernel.shape[2] * 9
        expected = (3 * fan_in) ** -0.5 if in_program else (2 / (9 * kernel.shape[3])) ** 0.5
        assert kernel.std() == pytest.approx(expected, rel=0.02)
        if in_program:
            assert np.abs(kernel).max() <= fan_in**-0.5
            head = network.head
            for array in (head.kernel[...], head.bias[...]):
                assert 0.7 * 256**-0.5 < np.abs(array).max() <= 256**-0.5
