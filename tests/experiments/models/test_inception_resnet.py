"""Inception-ResNet-v2: Keras's counts and values, sizes, a training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_checks import (
    abstract,
    assert_takes_a_step,
    averages,
    features_of_means,
    parameters,
    tapped,
)
from multiply_adds import multiply_adds

from experiments import models
from experiments.models.inception_resnet import OF_8, Residual

SHAPE = (75, 75, 3)


@pytest.mark.slow
def test_the_counts_are_those_of_keras() -> None:
    model = abstract("inception_resnet_v2", SHAPE, 10)
    assert (parameters(model), averages(model)) == (54_291_562, 60_544)
    assert parameters(model.head) == 1537 * 10
    kinds = [type(module) for _, module in nnx.iter_modules(model)]
    assert kinds.count(nnx.BatchNorm) == 204
    assert kinds.count(nnx.Conv) == 244
    ups = [stage.layers[1].up for stage in model.stages]
    assert [parameters(up) for up in ups] == [41_280, 418_880, 933_920]
    assert multiply_adds("inception_resnet_v2", SHAPE, 10) == pytest.approx(434e6, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("pixels", "expected"), [(75, 0.768911), (96, 0.965026)])
def test_every_feature_of_means_is_that_of_keras(pixels: int, expected: float) -> None:
    got = features_of_means("inception_resnet_v2", pixels)
    np.testing.assert_allclose(got, np.full(1536, expected), rtol=1e-5)


@pytest.mark.slow
def test_sizes_and_taps() -> None:
    sides = (15, 7, 3)
    shapes, outputs = tapped("inception_resnet_v2", (139, 139, 3), 10)
    assert shapes["stem"] == (2, sides[0], sides[0], 192)
    expected = [(2, n, n, k) for n, k in zip(sides, (320, 1088, 2080), strict=True)]
    assert [shapes[f"stages.{i}"] for i in range(3)] == expected
    assert outputs.features.shape == (2, 1536)


@pytest.mark.slow
def test_a_step_is_taken() -> None:
    assert_takes_a_step("inception_resnet_v2(bn_momentum=0.9)", SHAPE)


def test_images_that_are_too_small_are_refused() -> None:
    sentence = "inception_resnet_v2 needs images of at least 75 x 75 pixels, but these are 74 x 90"
    with pytest.raises(ValueError, match=sentence):
        models.create("inception_resnet_v2", (74, 90, 3), 10, nnx.Rngs(0))


@pytest.mark.parametrize("activated", [True, False])
def test_a_part_of_the_branches_is_added(activated: bool) -> None:
    """All that comes back from them is the bias of the last convolution, for kernels of zeros."""
    block = nnx.eval_shape(
        lambda: Residual(3, OF_8, 0.2, activated, momentum=0.9, rngs=nnx.Rngs(0))
    )
    graph, state = nnx.split(block)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    block = nnx.merge(graph, state)
    block.up.bias[...] = jnp.array([5.0, 10.0, -20.0])
    block.eval()
    x = jnp.full((1, 2, 2, 3), -1.5)
    expected = np.array([-0.5, 0.5, -5.5])
    out = jax.jit(lambda x: block(x))(x)[0, 1, 1]
    np.testing.assert_allclose(out, np.maximum(expected, 0) if activated else expected, rtol=1e-6)
