"""PSPNet and DeepLab-v3: the counts of their parts, layers, means of windows, gaps in kernels.

Covers `dilated.py` too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from model_checks import abstract, parameters

import regjax.flax as rf
from experiments import models
from experiments.models import layers
from experiments.models.segmentation import adaptive_means

SHAPE = (769, 769, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "context", "whole"),
    [("pspnet", 23_083_539, 70_437_350), ("deeplab_v3", 15_873_043, 63_226_854)],
)
def test_the_counts_are_those_of_the_program(name: str, context: int, whole: int) -> None:
    model = abstract(name, SHAPE, 19)
    assert parameters(model.backbone) == 42_623_936
    assert parameters(model.context) + parameters(model.head) == context
    assert parameters(model.auxiliary) == 4_729_875
    assert parameters(model) == whole


def seen(text: str, shape: tuple[int, int, int]):
    """The outputs' shapes of two images."""

    def outputs(x):
        model = models.create(text, shape, 11, nnx.Rngs(0))
        forward = rf.bind(model, head=model.head_name, auxiliary=model.auxiliary_names)
        return forward(x)._replace(state=())

    return jax.eval_shape(outputs, jnp.ones((2, *shape)))


@pytest.mark.parametrize(
    ("text", "small", "features"),
    [
        ("pspnet(backbone='resnet18', width=16)", (13, 17), 128),
        ("deeplab_v3(backbone='mobilenet_v2', width=32, auxiliary=False)", (12, 16), 256),
    ],
)
def test_logits_are_as_large_as_the_image_and_features_an_eighth(text, small, features) -> None:
    out = seen(text, (96, 128, 3))
    assert out.logits.shape == (2, 96, 128, 11)
    assert out.features.shape == (2, *small, features)
    shapes = [(branch.logits.shape, branch.features.shape) for branch in out.auxiliary]
    assert shapes == ([] if "False" in text else [((2, 96, 128, 11), (2, *small, features))])


def test_means_of_windows_are_those_of_a_loop() -> None:
    x = np.random.default_rng(0).normal(size=(1, 7, 5, 2)).astype(np.float32)
    for bins in (1, 2, 3, 6):
        got = adaptive_means(jnp.asarray(x), bins)
        for i, j in np.ndindex(bins, bins):
            (a, b), (c, d) = (
                (k * n // bins, -((-(k + 1) * n) // bins))
                for k, n in zip((i, j), (7, 5), strict=True)
            )
            np.testing.assert_allclose(got[:, i, j], x[:, a:b, c:d].mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("gap", [2, 5])
@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 3])
def test_kernels_with_gaps_are_those_of_xla(gap: int, groups: int) -> None:
    """Where the gap is as wide as the image too; values and gradients."""
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s)) for s in ((2, 5, 6, 3), (3, 3, 3 // groups, 3)))
    edges = [(gap, gap)] * 2
    own = {"rhs_dilation": (gap, gap), "feature_group_count": groups}

    def native(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), edges, dimension_numbers=numbers, **own)

    def ours(x, kernel):
        return layers.convolve(x, kernel, (1, 1), edges, **own)

    np.testing.assert_allclose(ours(x, kernel), native(x, kernel), atol=1e-5)
    slopes = [
        jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), (0, 1))(x, kernel) for f in (ours, native)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *slopes)
    assert "conv_general" not in str(jax.make_jaxpr(ours)(x, kernel))


def test_what_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match="backbone must be one of resnet18, resnet50"):
        models.create("pspnet(backbone='vgg')", SHAPE, 19, nnx.Rngs(0))
    with pytest.raises(ValueError, match="resizing must be one of half_pixel"):
        models.create("pspnet(resizing='corners')", SHAPE, 19, nnx.Rngs(0))
