"""NASNetMobile: Keras's counts and values by cell, odd and even sizes, a training step."""

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
from experiments.models import nasnet

SHAPE = (32, 32, 3)
CELLS = (
    *(8_776, 14_476, 34_056, 43_736, 51_480, 51_480, 155_760, 149_424, 172_656, 188_144, 188_144),
    *(559_328, 562_144, 655_072, 717_024, 717_024),
)


@pytest.mark.slow
def test_the_counts_are_those_of_keras() -> None:
    model = abstract("nasnet_mobile", SHAPE, 10)
    assert (parameters(model), averages(model)) == (4_243_548, 36_738)
    whole = [parameters(part) + averages(part) for part in (model.stem, *model.cells, model.head)]
    assert whole == [992, *CELLS, 10_570]
    kinds = [type(module) for _, module in nnx.iter_modules(model)]
    # Of two convolutions each there are 80 branches, and 36 beside them.
    assert kinds.count(nasnet.Separable) == 80
    assert kinds.count(nnx.BatchNorm) == 192
    assert kinds.count(nnx.Conv) == 2 * 160 + 36
    assert multiply_adds("nasnet_mobile", SHAPE, 10) == pytest.approx(11.5e6, rel=0.01)


FEATURES = {
    32: (0.184143, 0.00257929, 0.00256542, 0.376957, 0.368285, 0.195193),
    47: (0.515343, 0.114232, 0.114873, 1.00559, 1.03069, 0.586987),
}


@pytest.mark.slow
@pytest.mark.parametrize("pixels", FEATURES)
def test_features_of_means_are_those_of_keras(pixels: int) -> None:
    """Six groups, in the order in which they are joined: an even and an odd size."""
    expected = np.repeat(FEATURES[pixels], 176)
    got = features_of_means("nasnet_mobile", pixels)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_sizes_and_taps() -> None:
    shapes, outputs = tapped("nasnet_mobile", SHAPE, 10)
    sides = [shapes[f"cells.{i}"][1] for i in range(16)]
    assert shapes["stem"] == (2, 15, 15, 32)
    assert sides == [8, *[4] * 5, *[2] * 5, *[1] * 5]
    channels = [shapes[f"cells.{i}"][-1] for i in (0, 1, 2, 6, 7, 11, 12)]
    assert channels == [44, 88, 264, 352, 528, 704, 1056]
    assert outputs.features.shape == (2, 1056)


@pytest.mark.slow
def test_a_step_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one normal cell a stage, since each takes seconds to trace."""
    monkeypatch.setattr(nasnet, "REPEATS", 1)
    assert_takes_a_step("nasnet_mobile(bn_momentum=0.9)", SHAPE)


def cell(kind: type[nasnet.Cell], *arguments: int) -> nasnet.Cell:
    made = kind(*arguments, momentum=0.9, rngs=nnx.Rngs(0))
    made.eval()
    return made


def test_the_shifted_half_of_what_comes_before_sees_zeros_beyond_the_edge() -> None:
    halve = nasnet.Halve(1, 2, momentum=0.9, rngs=nnx.Rngs(0))
    halve.eval()
    for conv in halve.convs:
        conv.kernel[...] = jnp.ones((1, 1, 1, 1))
    for side, expected in ((2, [4]), (3, [5, 0, 0, 0])):
        x = jnp.arange(1.0, side**2 + 1).reshape(1, side, side, 1)
        own, further = np.moveaxis(np.asarray(halve(x)[0]) * np.sqrt(1.001), -1, 0)
        np.testing.assert_allclose(own, x[0, ::2, ::2, 0], rtol=1e-6)
        np.testing.assert_allclose(further.ravel(), expected, rtol=1e-6)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="nasnet_mobile needs images of at least 32 x 32 pixels"):
        models.create("nasnet_mobile", (31, 40, 3), 10, nnx.Rngs(0))


@pytest.mark.slow
def test_a_reduction_cell_sees_the_zeros_around_as_pixels() -> None:
    """Where all pixels are below 0, the maximum at an edge is 0 and the mean is over 9."""
    made = cell(nasnet.ReductionCell, 2, 0, False, 2)
    silent = [m for _, m in nnx.iter_modules(made) if isinstance(m, nasnet.Separable)]
    for separable in silent:
        separable.pointwise[-1].norm.scale[...] *= 0
    made.squeeze.conv.norm.scale[...] *= 0
    made.squeeze.conv.norm.bias[...] = -jnp.ones(2)
    out = jax.jit(lambda x: made(x, None))(jnp.ones((1, 4, 4, 2)))[0]
    largest, mean = out[..., :2], out[..., 2:4]
    # Of even sides the zeros are at the bottom and at the right.
    np.testing.assert_array_equal(largest[..., 0], [[-1, 0], [0, 0]])
    np.testing.assert_allclose(mean[..., 0], [[-1, -6 / 9], [-6 / 9, -4 / 9]], rtol=1e-6)
