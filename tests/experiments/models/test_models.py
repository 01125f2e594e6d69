"""The thesis's networks: shapes, parameter counts, names.

Covers `thesis.py` too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import models
from experiments.models import thesis


def count(model):
    return sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("name", ["small_cnn", "thesis_resnet"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 30, 3)])
def test_logits_have_the_shape_of_batch_and_classes(name, shape):
    def outputs():
        model = models.create(name, shape, 7, nnx.Rngs(0))
        return model(jnp.ones((2, *shape))), model.head.kernel[...]

    logits, kernel = jax.eval_shape(outputs)
    assert logits.shape == (2, 7)
    assert kernel.shape == (64, 7)


@pytest.mark.parametrize(
    ("shape", "padding", "pixels"),
    [((8, 8, 1), "SAME", 4), ((28, 28, 1), "SAME", 49), ((28, 28, 1), "VALID", 9)],
)
def test_small_cnn_has_the_parameters_of_section_7_1_1(shape, padding, pixels):
    model = thesis.SmallCNN(shape, 10, padding=padding, rngs=nnx.Rngs(0))
    convolutions = (9 * 1 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    assert count(model) == convolutions + (64 * pixels + 1) * 64 + 65 * 10


def test_resnet_has_three_blocks_with_projected_shortcuts():
    model = models.create("thesis_resnet", (32, 32, 3), 10, nnx.Rngs(0))
    expected = 65 * 10
    for k, f in ((3, 16), (16, 32), (32, 64)):
        expected += (9 * k + 1) * f + (9 * f + 1) * f + 4 * f + (k + 1) * f
    assert count(model) == expected


def test_parameters_start_as_in_the_thesis_framework():
    model = models.create("small_cnn", (28, 28, 1), 10, nnx.Rngs(0))
    kernel = np.asarray(model.conv2.kernel[...])
    limit = np.sqrt(6 / (9 * 32 + 9 * 64))
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert not np.any(model.conv2.bias[...])


def test_batchnorm_updates_in_training_only():
    model = models.create("thesis_resnet", (8, 8, 1), 10, nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    model.eval()
    model(x)
    assert not np.any(model.blocks[0].norm1.mean[...])
    model.train()
    model(x)
    assert np.any(model.blocks[0].norm1.mean[...])


def test_unknown_names_and_small_images_are_refused():
    with pytest.raises(ValueError, match="known models: small_cnn, thesis_resnet, resnet8"):
        models.create("vgg", (8, 8, 1), 10, nnx.Rngs(0))
    with pytest.raises(ValueError, match="larger images than 8 x 8"):
        thesis.SmallCNN((8, 8, 1), 10, padding="VALID", rngs=nnx.Rngs(0))
