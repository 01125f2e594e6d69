"""ISDA's ResNets, wide ResNets and ResNeXts: published sizes, other programs' logits, steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filled import logits
from flax import nnx
from model_checks import abstract, averages, parameters
from multiply_adds import multiply_adds

import regjax.flax as rf
from experiments import models
from experiments.models import resnet

slow = pytest.mark.slow
CIFAR = (
    # Parameters at 10 and 100 classes, running statistics, features, multiply-adds at 10 classes.
    ("resnet32", 466_906, 472_756, 2_464, 64, 69_124_736),
    ("resnet110", 1_730_714, 1_736_564, 8_288, 64, 253_149_824),
    ("se_resnet110", 1_742_810, 1_748_660, 8_288, 64, 253_161_920),
    ("wide_resnet16_8", 10_961_370, 11_007_540, 7_200, 512, 1_548_145_664),
    ("wide_resnet28_10", 36_479_194, 36_536_884, 17_952, 640, 5_243_328_768),
    ("resnext29_8x64d", 34_426_698, 34_518_948, 57_472, 1024, 5_387_266_048),
)
IMAGENET = (
    # Parameters, running statistics, multiply-adds in 10^9 as torchvision's page has them.
    ("resnet50", 25_557_032, 53_120, 4.09),
    ("resnet101", 44_549_160, 105_344, 7.80),
    ("resnet152", 60_192_808, 151_424, 11.51),
    ("resnext50_32x4d", 25_028_904, 68_224, 4.23),
    ("resnext101_32x8d", 88_791_336, 202_880, 16.41),
)
LONG = ("resnet110", "se_resnet110", *(row[0] for row in IMAGENET[1:]))


def each(rows):
    return [pytest.param(*row, marks=slow if row[0] in LONG else ()) for row in rows]


def sizes(name, shape, classes):
    """Numbers of parameters and of running statistics, and the shape of the last kernel."""
    model = abstract(name, shape, classes)
    return parameters(model), averages(model), model.head.kernel.shape


@pytest.mark.parametrize(("name", "of_10", "of_100", "statistics", "features", "adds"), each(CIFAR))
def test_networks_for_cifar_have_the_published_sizes(
    name, of_10, of_100, statistics, features, adds
):
    assert sizes(name, (32, 32, 3), 10) == (of_10, statistics, (features, 10))
    assert of_10 + 90 * (features + 1) == of_100
    assert multiply_adds(name, (32, 32, 3), 10) == adds


@pytest.mark.parametrize(("name", "count", "statistics", "billions"), each(IMAGENET))
def test_networks_for_imagenet_have_the_published_sizes(name, count, statistics, billions):
    assert sizes(name, (224, 224, 3), 1000) == (count, statistics, (2048, 1000))
    assert multiply_adds(name, (224, 224, 3), 1000) == pytest.approx(1e9 * billions, rel=2e-3)


# Logits of PyTorch 2.14 in float64 with the parameters and the image of `filled.py`: its kernels
# [h, w, K, O] transposed to [O, K, h, w], those of linear layers to [O, K], and BatchNorm with its
# running statistics. The networks for ImageNet are torchvision 0.29's `ResNet(Bottleneck,
# [1, 1, 1, 1])`, also with groups=32, width_per_group=4; the others were written for this from the
# papers and the ISDA authors' description. In the same way, on 32 x 32 (CIFAR) and 64 x 64
# (ImageNet) pixels, the whole resnet110, se_resnet110, wide_resnet16_8, resnext29_8x64d, resnet50
# and resnext50_32x4d agreed to 1e-12 of the largest logit.
REFERENCE = {
    "resnet110(depth=8)": (
        (-2.00388343915, 3.5976799904, -10.6723710347, 3.06166504714, -4.30083790434),
        slow,
    ),
    "se_resnet110(depth=8)": (
        (-0.859951743254, 3.04502142885, -6.2548835854, 2.14350373555, -2.70553897052),
        slow,
    ),
    "wide_resnet28_10(depth=10, width=1)": (
        (-1.63068947366, 1.94371069818, -8.85042270082, 3.00814214851, -3.11182785887),
        slow,
    ),
    "resnext29_8x64d(depth=11, group_width=4)": (
        (5.13116532551, -21.4307042211, -12.6137468143, -1.87000704757, -0.430028842942),
        (),
    ),
    "resnet50(depth=14)": (
        (0.282175729241, -8.07878803627, -1.27046654882, -14.4524376388, -29.6669918979),
        slow,
    ),
    "resnext50_32x4d(depth=14)": (
        (5.39987066289, -2.54228296126, 7.33286192382, -5.11778120511, -35.1856048095),
        slow,
    ),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [pytest.param(text, row[0], marks=row[1]) for text, row in REFERENCE.items()],
)
def test_logits_are_those_of_another_program(text, expected, monkeypatch):
    monkeypatch.setitem(resnet.IMAGENET, 14, (1, 1, 1, 1))
    shape = (32, 32, 3) if "14" in text else (16, 16, 3)
    got = logits(text, shape, 5)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


SMALL = (
    "se_resnet110(depth=8, dropout=0.3)",
    "wide_resnet16_8(depth=10, dropout=0.3)",
    "resnext29_8x64d(depth=11)",
)
WHOLE = (
    "resnet32(dropout=0.3)",
    "wide_resnet16_8",
    "wide_resnet28_10",
    "resnext29_8x64d",
    "resnet50",
    "resnext50_32x4d(depth=14)",
)


@pytest.mark.parametrize("text", [*SMALL, *(pytest.param(name, marks=slow) for name in WHOLE)])
def test_a_step_and_an_evaluation_go_through_the_stages(text, monkeypatch):
    monkeypatch.setitem(resnet.IMAGENET, 14, (1, 1, 1, 1))
    seen = []

    def tap(layer, h):
        seen.append(layer)
        return h

    def both(x, key):
        forward = rf.bind(models.create(text, (32, 32, 3), 7, nnx.Rngs(0)), head="head")

        def objective(params):
            outputs = forward.replace(params=params)(x, key=key, tap=tap)
            return jnp.sum(outputs.logits), outputs

        slopes, trained = jax.grad(objective, has_aux=True)(forward.params)
        return forward.params, slopes, trained, forward.frozen()(x)

    x = jnp.ones((2, 32, 32, 3))
    params, slopes, trained, evaluated = jax.eval_shape(both, x, jax.random.key(0))
    assert jax.tree.map(jnp.shape, slopes) == jax.tree.map(jnp.shape, params)
    for outputs in (trained, evaluated):
        assert outputs.logits.shape == (2, 7)
        assert outputs.features.shape == (2, params["head"]["kernel"].shape[0])
    stages = 4 if "50" in text else 3
    assert {"input", *(f"stages.{i}" for i in range(stages))} <= set(seen)
    assert jax.tree.leaves(trained.state)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet50(depth=18)", "has one of 50, 101, 152 layers, not 18"),
        ("resnext29_8x64d(depth=28)", r"9 n \+ 2 layers, not 28"),
        ("wide_resnet16_8(depth=4)", r"6 n \+ 4 layers, not 4"),
        ("wide_resnet28_10(depth=27)", r"6 n \+ 4 layers, not 27"),
    ],
)
def test_other_depths_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        models.create(text, (32, 32, 3), 10, nnx.Rngs(0))
