"""MobileNetV2: Keras's counts and values, strides, widths, taps, a training step."""

import jax
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
from experiments.models import mobilenet

SHAPE = (32, 32, 3)
BLOCKS = (
    *(992, 5_568, 9_456, 10_640, 15_680, 15_680, 21_952, 55_936, 55_936, 55_936, 68_352),
    *(120_768, 120_768, 157_888, 324_160, 324_160, 478_400),
)


def test_the_counts_are_those_of_keras() -> None:
    model = abstract("mobilenet_v2", SHAPE, 10)
    assert (parameters(model), averages(model)) == (2_236_682, 34_112)
    assert parameters(model.head) == 12_810
    whole = [parameters(part) + averages(part) for part in (model.stem, *model.blocks, model.last)]
    assert whole == [864 + 128, *BLOCKS, 409_600 + 5_120]
    assert multiply_adds("mobilenet_v2", SHAPE, 10) == pytest.approx(6.1e6, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("pixels", "expected"), [(32, 0.00712244), (33, 0.138645)])
def test_every_feature_of_means_is_that_of_keras(pixels: int, expected: float) -> None:
    got = features_of_means("mobilenet_v2", pixels)
    np.testing.assert_allclose(got, np.full(1280, expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        pytest.param(
            "mobilenet_v2",
            {"stem": 16, "blocks.1": 8, "blocks.3": 4, "blocks.6": 2, "last": 1},
            marks=pytest.mark.slow,
        ),
        (
            "mobilenet_v2(stem_stride=1, width=0.35)",
            {"stem": 32, "blocks.1": 32, "blocks.3": 16, "blocks.6": 8, "last": 4},
        ),
    ],
)
def test_strides_and_taps(text: str, sizes: dict[str, int]) -> None:
    shapes, outputs = tapped(text, SHAPE, 10)
    assert {name: shapes[name][1] for name in sizes} == sizes
    assert {"input", "stem", "last", *(f"blocks.{i}" for i in range(17))} <= set(shapes)
    assert outputs.logits.shape == (2, 10)
    assert outputs.features.shape == (2, 1280)


@pytest.mark.slow
def test_channels_are_rounded_to_multiples_of_8() -> None:
    assert [mobilenet.rounded(n) for n in (1, 11, 11.2, 12, 35, 36, 44.8)] == [
        *(8, 16, 16, 16, 32, 40, 48),
    ]
    wide = abstract("mobilenet_v2(width=1.4)", SHAPE, 10)
    assert wide.head.kernel.shape == (1792, 10)
    assert wide.stem.conv.kernel.shape == (3, 3, 3, 48)
    slim = abstract("mobilenet_v2(width=0.35)", SHAPE, 10)
    assert slim.head.kernel.shape == (1280, 10)
    assert slim.blocks[3].parts.layers[0].conv.kernel.shape == (1, 1, 8, 48)


@pytest.mark.slow
def test_the_momentum_reaches_every_norm_and_a_step_is_taken() -> None:
    model = abstract("mobilenet_v2(bn_momentum=0.9)", SHAPE, 10)
    norms = [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.BatchNorm)]
    assert len(norms) == 52
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.9, 1e-3)}
    assert_takes_a_step("mobilenet_v2(width=0.1)", SHAPE)


@pytest.mark.parametrize(
    ("text", "pixels", "message"),
    [
        ("mobilenet_v2", 31, "mobilenet_v2 needs images of at least 32 x 32 pixels.* 31 x 33"),
        ("mobilenet_v2(stem_stride=1)", 7, "at least 8 x 8 pixels, but these are 7 x 9"),
        ("mobilenet_v2(stem_stride=3)", 32, "stem_stride must be 1 or 2, not 3"),
        ("mobilenet_v2(width=0.0)", 32, "width must be a factor above 0.0, at most 16.0, not 0.0"),
    ],
)
def test_what_cannot_be_is_refused(text: str, pixels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create(text, (pixels, pixels + 2, 3), 10, nnx.Rngs(0))


def test_a_bottleneck_is_linear_and_stands_beside_its_input() -> None:
    block = mobilenet.InvertedResidual(4, 4, 1, expansion=2, momentum=0.9, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 4))
    block.parts.layers[-1].norm.scale[...] *= 0
    np.testing.assert_array_equal(block(x), x)
    block = mobilenet.InvertedResidual(4, 4, 2, expansion=2, momentum=0.9, rngs=nnx.Rngs(0))
    out = block(x)
    assert out.shape == (2, 3, 3, 4)
    assert np.any(out < 0)
