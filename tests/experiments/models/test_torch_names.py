"""torchvision's names, shapes and layouts, against those of torchvision 0.29."""

import functools
import hashlib
from typing import Any

import jax
import numpy as np
import pytest
from model_checks import abstract

from experiments.models import torch_names
from experiments.runs import networks

# Of `weights=None, num_classes=11`: entries of the state dict, and the SHA-256 of "name shape"
# lines in order. To see what differs, print both in an environment that has torchvision.
STORED = {
    "resnet50": (320, "f66766cdd1e02ecb"),
    "resnet101": (626, "0d95691b4348e219"),
    "resnet152": (932, "33829cb6cf627210"),
    "resnext50_32x4d": (320, "0fbf28d7e8c393a5"),
    "resnext101_32x8d": (626, "d85f33ad665b1ef9"),
    "densenet121": (727, "b841eda1341f75e6"),
    "mobilenet_v2(torch=True)": (314, "51263d4856f43dac"),
}
SMALL = "mobilenet_v2(torch=True, width=0.1)"
# Names of torchvision's, and what they are of ours.
SPELT = {
    "resnet50": {
        "conv1.weight": "conv.kernel",
        "layer2.0.downsample.1.running_var": "stages.1.layers.0.shortcut_norm.var",
        "layer4.2.bn3.weight": "stages.3.layers.2.norm3.scale",
        "layer1.1.conv2.weight": "stages.0.layers.1.conv2.kernel",
        "fc.weight": "head.kernel",
    },
    "densenet121": {
        "features.norm0.bias": "stem_norm.bias",
        "features.denseblock1.denselayer1.conv2.weight": "stages.0.layers.0.conv2.kernel",
        "features.transition1.conv.weight": "stages.1.layers.0.conv.kernel",
        "features.denseblock2.denselayer12.norm1.running_mean": "stages.1.layers.12.norm1.mean",
        "features.norm5.weight": "norm.scale",
    },
    SMALL: {
        "features.0.1.weight": "stem.norm.scale",
        "features.1.conv.0.0.weight": "blocks.0.parts.layers.0.conv.kernel",
        "features.1.conv.1.weight": "blocks.0.parts.layers.1.conv.kernel",
        "features.2.conv.1.1.running_var": "blocks.1.parts.layers.1.norm.var",
        "features.2.conv.3.bias": "blocks.1.parts.layers.2.norm.bias",
        "classifier.1.bias": "head.bias",
    },
}


@functools.cache
def shapes(text: str, channels: int = 3) -> Any:
    build = networks.builder(text, (64, 64, channels), 11)
    forward = jax.eval_shape(build, jax.random.key(0))
    return forward.params, forward.state


def filled(text: str, channels: int = 3) -> Any:
    draw = np.random.default_rng(0)
    of = shapes(text, channels)
    return jax.tree.map(lambda x: draw.standard_normal(x.shape, np.float32), of)


def by_path(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(p[1:], simple=True, separator="."): x for p, x in leaves}


FAST = "mobilenet_v2(torch=True)"


@pytest.mark.parametrize(
    "text", [FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in STORED if n != FAST)]
)
def test_names_and_shapes_are_those_of_torchvision(text: str) -> None:
    params, state = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes(text))
    got = torch_names.to_torch(text, params, state)
    lines = "\n".join(sorted(f"{name} {list(x.shape)}" for name, x in got.items()))
    assert (len(got), hashlib.sha256(lines.encode()).hexdigest()[:16]) == STORED[text]
    counters = {x.dtype.name for name, x in got.items() if name.endswith("num_batches_tracked")}
    assert counters == {"int64"}


@pytest.mark.parametrize(
    "text", [SMALL, *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet50", "densenet121"))]
)
def test_every_array_is_where_torchvision_reads_it_and_comes_back(text: str) -> None:
    params, state = given = filled(text)
    got, ours = torch_names.to_torch(text, params, state, steps=7), by_path(given)
    for theirs, path in SPELT[text].items():
        order = {4: "yxio->oiyx", 2: "io->oi", 1: "o->o"}[ours[path].ndim]
        np.testing.assert_array_equal(got[theirs], np.einsum(order, ours[path]))
    assert {int(x) for name, x in got.items() if x.dtype == np.int64} == {7}
    back = torch_names.from_torch(text, got, *jax.tree.map(np.zeros_like, given))
    jax.tree.map(np.testing.assert_array_equal, back, given)


@pytest.mark.slow
def test_mobilenet_pads_and_normalises_as_torchvision_does() -> None:
    model = abstract("mobilenet_v2(torch=True)", (64, 64, 3), 11)
    blocks = [model.stem, *(part for block in model.blocks for part in block.parts.layers)]
    for part in (*blocks, model.last):
        assert part.norm.epsilon == 1e-5
        if part.conv.kernel_size == (3, 3):
            assert part.conv.padding == ((1, 1), (1, 1))


def test_what_torchvision_has_not_is_one_sentence() -> None:
    for text, words in {
        "densenet265": "torchvision has no network like 'densenet265', but it has resnet50",
        "mobilenet_v2": r"as Keras's does.*train mobilenet_v2\(torch=True\)",
        "mobilenet_v2(torch=True, stem_stride=1)": "has no stem_stride",
        "resnet50(groups=2)": "has no groups",
    }.items():
        with pytest.raises(ValueError, match=words):
            torch_names.check(text)


@pytest.mark.slow
def test_another_networks_arrays_are_one_sentence() -> None:
    params, state = filled(SMALL)
    arrays = torch_names.to_torch(SMALL, params, state)
    assert torch_names.classes(arrays) == 11
    bias = arrays.pop("features.0.1.bias")
    with pytest.raises(ValueError, match=r"it lacks 1 arrays, features\.0\.1\.bias among them"):
        torch_names.from_torch(SMALL, arrays, params, state)
    more = {**arrays, "features.0.1.bias": bias, "z": bias}
    with pytest.raises(ValueError, match="it has besides 1 arrays, z among them"):
        torch_names.from_torch(SMALL, more, params, state)
    wrong = {**arrays, "features.0.1.bias": bias[:-1]}
    with pytest.raises(ValueError, match=r"features.0.1.bias is \[7\], and ours, stem.norm.bias"):
        torch_names.from_torch(SMALL, wrong, params, state)
    with pytest.raises(ValueError, match="no last linear layer"):
        torch_names.classes({})
    with pytest.raises(ValueError, match="3 channels, but these had 1"):
        torch_names.to_torch(SMALL, *filled(SMALL, channels=1))
