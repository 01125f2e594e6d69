"""torchvision's names and layouts of our networks' arrays, and which of our networks it has.

A convolution's kernel `[h, w, I / groups, O]` is a weight `[O, I / groups, h, w]` there, a linear
layer's `[I, O]` one `[O, I]`; scale, mean and var are weight, running_mean and running_var.

A network in evaluation is the same function with the running variances as they are, so they are
kept both ways. They are not the same statistic: Flax averages the biased variance of a batch,
torch n / (n - 1) times it, for n values a channel, images times pixels (1.0006 for 32 images of
7 x 7). Nothing of it matters unless BatchNorm's averages are trained further, and there they turn
into those of the program that trains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from regjax.core.calls import read_named

Arrays = dict[str, np.ndarray]
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
COUNTER = "num_batches_tracked"  # torch's, of each BatchNorm; read by it only without a momentum


def _resnet(layer: str) -> str:
    if found := re.fullmatch(r"stages\.(\d+)\.layers\.(\d+)\.(\w+)", layer):
        stage, block, name = found.groups()
        own = {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}
        inner = own.get(name, name.replace("norm", "bn"))
        return f"layer{int(stage) + 1}.{block}.{inner}"
    return {"conv": "conv1", "norm": "bn1", "head": "fc"}[layer]


def _densenet(layer: str) -> str:
    if found := re.fullmatch(r"stages\.(\d+)\.layers\.(\d+)\.(\w+)", layer):
        stage, block, name = int(found[1]), int(found[2]), found[3]
        if stage and not block:  # a stage begins with its transition
            return f"features.transition{stage}.{name}"
        return f"features.denseblock{stage + 1}.denselayer{block + (not stage)}.{name}"
    own = {"conv": "conv0", "stem_norm": "norm0", "norm": "norm5"}
    return "classifier" if layer == "head" else f"features.{own[layer]}"


def _mobilenet(layer: str) -> str:
    if found := re.fullmatch(r"blocks\.(\d+)\.parts\.layers\.(\d+)\.(conv|norm)", layer):
        block, part, norm = int(found[1]), int(found[2]), found[3] == "norm"
        last = 2 if block else 1  # the first block does not expand
        inner = f"{part + norm}" if part == last else f"{part}.{int(norm)}"
        return f"features.{block + 1}.conv.{inner}"
    ends = {"stem": "features.0", "last": "features.18"}
    whole, _, name = layer.partition(".")
    return "classifier.1" if layer == "head" else f"{ends[whole]}.{int(name == 'norm')}"


# By our name: torchvision's, the names of layers, and the arguments that its networks allow.
NETWORKS: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    **{f"resnet{depth}": (_resnet, ()) for depth in (50, 101, 152)},
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x8d"), (_resnet, ())),
    "densenet121": (_densenet, ("dropout",)),
    "mobilenet_v2": (_mobilenet, ("torch", "bn_momentum", "width")),
}


def check(model: str) -> str:
    """The name of a network in torchvision, which is ours.

    Args:
      model: as `config.model` has it, such as `"densenet121(dropout=0.2)"`.

    Raises:
      ValueError: torchvision has no such network, or ours is another function of its parameters.

    Example:
      >>> check("resnet50")
      'resnet50'
    """
    name, given = read_named(model, "model", "resnet50")
    if name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise ValueError(f"torchvision has no network like {name!r}, but it has {known}.")
    if name == "mobilenet_v2" and given.get("torch") is not True:
        raise ValueError(
            "mobilenet_v2 pads images and normalises as Keras's does, so torchvision's would "
            "compute something else from its parameters: train mobilenet_v2(torch=True) for that."
        )
    if others := sorted(given.keys() - set(NETWORKS[name][1])):
        raise ValueError(
            f"torchvision's {name} has no {', '.join(others)}, so {model} is another network: "
            "leave that out."
        )
    return name


def to_torch(model: str, params: Any, state: Any, steps: int = 0) -> Arrays:
    """The state dict of torchvision's network, with the same logits in evaluation.

    Args:
      model: as in `check`.
      params: of a `Forward` of this network.
      state: BatchNorm's averages, of the same.
      steps: for `num_batches_tracked`.

    Returns:
      float32 arrays and int64 counters `[]` by torchvision's names, in C order.

    Raises:
      ValueError: as in `check`; or the images had other than 3 channels.

    Example:
      `to_torch("resnet50", forward.params, forward.state)["fc.weight"].shape == (1000, 2048)`
    """
    name = check(model)
    found: Arrays = {}
    for path, value in _leaves(params, state).items():
        theirs, array = _name(name, path), np.asarray(value, np.float32)
        found[theirs] = np.ascontiguousarray(array.transpose(_axes(path, array.ndim)))
        if path.endswith(".var"):
            found[f"{theirs.rpartition('.')[0]}.{COUNTER}"] = np.array(steps, np.int64)
    (stem,) = (x for n, x in found.items() if n in STEMS)
    if stem.shape[1] != 3:
        raise ValueError(
            f"torchvision's {name} is of images with 3 channels, but these had {stem.shape[1]}."
        )
    return found


STEMS = ("conv1.weight", "features.conv0.weight", "features.0.0.weight")
HEADS = ("fc.weight", "classifier.weight", "classifier.1.weight")


def classes(arrays: Mapping[str, np.ndarray]) -> int:
    """The number of classes of a state dict; ValueError if it has no last linear layer."""
    found = [arrays[name].shape[0] for name in HEADS if name in arrays]
    if len(found) != 1:
        raise ValueError(f"there is no last linear layer ({', '.join(HEADS)}) in it.")
    return found[0]


def from_torch(model: str, arrays: Mapping[str, np.ndarray], params: Any, state: Any) -> Any:
    """The parameters and averages of a network of ours out of torchvision's state dict.

    Args:
      model: as in `check`.
      arrays: the state dict; counters of batches may be missing, and are not read.
      params: what is wanted, arrays or their shapes; of a `Forward` of this network.
      state: likewise.

    Returns:
      `(params, state)`, float32.

    Raises:
      ValueError: as in `check`; or an array is missing, is of another shape, or is left over.

    Example:
      `from_torch("resnet50", to_torch("resnet50", f.params, f.state), f.params, f.state)` are
      `(f.params, f.state)`
    """
    name = check(model)
    wanted = {_name(name, path) for path in _leaves(params, state)}
    given = {each for each in arrays if each.rpartition(".")[2] != COUNTER}
    for words, names in (("lacks", wanted - given), ("has besides", given - wanted)):
        if names:
            raise ValueError(
                f"it is no {name} of torchvision's: it {words} {len(names)} arrays, "
                f"{min(names)} among them."
            )

    def value(path: tuple[Any, ...], like: Any) -> np.ndarray:
        ours = jax.tree_util.keystr(path, simple=True, separator=".")
        theirs = _name(name, ours)
        array = np.asarray(arrays[theirs], np.float32)
        axes = np.argsort(_axes(ours, len(like.shape)))
        fits = array.ndim == len(axes) and array.transpose(axes).shape == tuple(like.shape)
        if not fits:
            raise ValueError(
                f"it is no {model} of these images and classes: {theirs} is {list(array.shape)}, "
                f"and ours, {ours}, {list(like.shape)}."
            )
        return np.ascontiguousarray(array.transpose(axes))

    return jax.tree.map_with_path(value, params), jax.tree.map_with_path(value, state)


def _leaves(params: Any, state: Any) -> dict[str, Any]:
    pairs = [*jax.tree.leaves_with_path(params), *jax.tree.leaves_with_path(state)]
    return {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in pairs}


def _name(network: str, path: str) -> str:
    layer, _, leaf = path.rpartition(".")
    return f"{NETWORKS[network][0](layer)}.{LEAVES[leaf]}"


def _axes(path: str, ndim: int) -> tuple[int, ...]:
    """The order of our axes in torch's array."""
    return tuple(reversed(range(ndim))) if ndim < 4 else (3, 2, 0, 1)
