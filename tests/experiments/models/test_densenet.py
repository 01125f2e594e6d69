"""DenseNets: the published counts, widths and taps, logits as torchvision's, a step."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from model_checks import abstract, assert_logits, assert_takes_a_step, averages, parameters, tapped
from multiply_adds import multiply_adds

from experiments.models import densenet, layers

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)
SMALL = "densenet_bc100_12(depth=16, growth=4)"


@pytest.mark.slow
def test_the_published_network_for_cifar():
    model = abstract("densenet_bc100_12", CIFAR, 10)
    assert (parameters(model), averages(model)) == (769_162, 23_988)
    assert 769_162 + 90 * 343 == 800_032  # of 100 classes
    assert model.head.kernel.shape == (342, 10)
    assert multiply_adds("densenet_bc100_12", CIFAR, 10) == pytest.approx(287_929_692, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "count", "features"),
    [
        ("densenet121", 7_978_856, 1024),
        ("densenet121(init_features=24)", 7_834_076, 1019),
        ("densenet265", 33_337_704, 2688),
        ("densenet265(init_features=24)", 33_107_324, 2683),
    ],
)
def test_the_published_networks_for_imagenet(text, count, features):
    model = abstract(text, IMAGENET, 1000)
    assert parameters(model) == count
    assert model.head.kernel.shape == (features, 1000)


def test_taps_reach_the_stages_and_images_of_other_sizes_are_pooled_whole():
    for text, shape, expected in (
        (SMALL, (32, 32, 3), [(32, 32, 16), (16, 16, 16), (8, 8, 16)]),
        (SMALL, (9, 14, 1), [(9, 14, 16), (4, 7, 16), (2, 3, 16)]),
        ("densenet121(blocks=(1, 1))", (64, 40, 3), [(16, 10, 96), (8, 5, 80)]),
    ):
        seen, outputs = tapped(text, shape, 7)
        assert seen["input"] == (2, *shape)
        assert [seen[f"stages.{i}"] for i in range(len(expected))] == [(2, *e) for e in expected]
        assert outputs.logits.shape == (2, 7)
        assert outputs.features.shape == (2, expected[-1][-1])


# Computed once in float64 by torch 2.14 and torchvision 0.29, from the same weights and images.
TORCH = (
    (
        functools.partial(densenet.cifar_densenet, depth=16, growth=4),
        (8, 8, 3),
        [[0.165957, -0.170321, -0.571821], [0.120947, -0.175629, -0.548421]],
    ),
    (
        functools.partial(densenet.imagenet_densenet, blocks=(1, 2, 1, 1), init_features=8),
        (40, 40, 3),
        [[-0.610918, 0.476907, -1.490844], [-0.637958, 0.538625, -1.459638]],
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize(("build", "shape", "logits"), TORCH)
def test_logits_are_torchvisions(build, shape, logits):
    model = build(shape, 3, rngs=nnx.Rngs(0))
    assert_logits(model, shape, logits)


def test_a_layer_adds_to_its_input_what_dropout_leaves_in_training():
    layer = densenet.DenseLayer(3, 2, dropout=0.5, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    y = np.asarray(layer(x))
    np.testing.assert_array_equal(y[..., :3], x)
    assert 0.2 < np.mean(y[..., 3:] == 0) < 0.8
    layer.eval()
    assert np.all(np.asarray(layer(x))[..., 3:] != 0)
    assert densenet.DenseLayer(3, 2, dropout=0.0, rngs=nnx.Rngs(0)).dropout is None


def test_kernels_start_as_in_the_program_and_the_head_as_torchs():
    layer = densenet.DenseLayer(64, 32, dropout=0.0, rngs=nnx.Rngs(0))
    for conv in (layer.conv1, layer.conv2):
        kernel = np.asarray(conv.kernel[...])
        height, width, _, out = kernel.shape
        z = kernel / np.sqrt(2 / (height * width * out))
        assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
        assert np.abs(z).max() > 3
        assert conv.bias is None
    head = layers.torch_linear(400, 50, nnx.Rngs(1))
    for array, least in ((head.kernel[...], 0.99), (head.bias[...], 0.8)):
        scaled = np.abs(array) * 20
        assert least < scaled.max() <= 1
        assert abs(np.mean(array)) < 4 / 20 / np.sqrt(3 * array.size)


@pytest.mark.nnx
@pytest.mark.parametrize("text", [SMALL, "densenet121(blocks=(1, 1), dropout=0.2)"])
def test_a_training_step(text):
    assert_takes_a_step(text, (16, 16, 3))


@pytest.mark.parametrize("depth", [4, 12, 101])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f"6 n \\+ 4 layers, not {depth}"):
        densenet.cifar_densenet(CIFAR, 10, depth=depth, rngs=nnx.Rngs(0))
