"""Networks of `experiments.models` in PyTorch, layer by layer, and our parameters put into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from regjax.core.calls import read_call

Change = Callable[[torch.Tensor], torch.Tensor]
# What may change a layer's output: its name, and by what.
At = Mapping[str, Change]


def _changed(at: At, layer: str, h: torch.Tensor) -> torch.Tensor:
    return at[layer](h) if layer in at else h


class SmallCNN(nn.Module):
    """`small_cnn`: three 3 x 3 convolutions and two dense layers."""

    layers = ("input", "conv1", "conv2")

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        """For images of that shape (height, width, channels)."""
        super().__init__()
        height, width, channels = shape
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * (height // 4) * (width // 4), 64)
        self.head = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor, at: At = {}) -> torch.Tensor:  # noqa: B006
        """Logits [B, C] of images [B, K, H, W]."""
        h = _changed(at, "conv1", self.conv1(_changed(at, "input", x)))
        h = _changed(at, "conv2", self.conv2(functional.max_pool2d(h.relu(), 2)))
        h = self.conv3(functional.max_pool2d(h.relu(), 2)).relu()
        return self.head(self.hidden(h.flatten(1)).relu())


class PreActBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3 x 3 convolutions, beside a shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        """The shortcut is a 1 x 1 convolution where the shape changes."""
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.project = stride != 1 or channels != filters
        if self.project:
            self.shortcut = nn.Conv2d(channels, filters, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of x."""
        h = self.norm1(x).relu()
        skip = self.shortcut(h) if self.project else x
        return skip + self.conv2(self.norm2(self.conv1(h)).relu())


class PreActResNet18(nn.Module):
    """`preact_resnet18`: four stages of two blocks with 1, 2, 4 and 8 times `width` filters."""

    layers = ("input", "stages.0", "stages.1", "stages.2")

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        """For images of that shape (height, width, channels)."""
        super().__init__()
        self.conv = nn.Conv2d(shape[-1], width, 3, padding=1, bias=False)
        filters = [width * 2**i for i in range(4)]
        self.stages = nn.ModuleList(
            nn.Sequential(PreActBlock(before, each, 1 + (i > 0)), PreActBlock(each, each, 1))
            for i, (before, each) in enumerate(zip([width, *filters], filters, strict=False))
        )
        self.norm = nn.BatchNorm2d(filters[-1])
        self.head = nn.Linear(filters[-1], classes)

    def forward(self, x: torch.Tensor, at: At = {}) -> torch.Tensor:  # noqa: B006
        """Logits [B, C] of images [B, K, H, W]."""
        h = self.conv(_changed(at, "input", x))
        for i, stage in enumerate(self.stages):
            h = _changed(at, f"stages.{i}", stage(h))
        return self.head(self.norm(h).relu().mean((2, 3)))


MODELS: dict[str, type[nn.Module]] = {"small_cnn": SmallCNN, "preact_resnet18": PreActResNet18}


def create(model: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of a name such as "preact_resnet18(width=16)", with PyTorch's parameters."""
    name, given = read_call(model)
    return MODELS[name](shape, classes, **given)


def put(network: nn.Module, params: Mapping[str, Any]) -> None:
    """Gives a network the parameters of ours, in place.

    Args:
      network: of this module.
      params: `Forward.params` of the network of the same name.
    """
    flat = dict(_flat(params, ""))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(_ours(flat, name, tuple(parameter.shape))))


def _flat(tree: Any, path: str) -> list[tuple[str, np.ndarray]]:
    if not isinstance(tree, Mapping):
        return [(path, np.asarray(tree))]
    # A sequence's layers have no name of their own in PyTorch.
    inner = ((path if k == "layers" else f"{path}.{k}".strip("."), v) for k, v in tree.items())
    return [each for at, value in inner for each in _flat(value, at)]


def _ours(flat: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    layer, kind = name.rsplit(".", 1)
    if kind == "bias" or f"{layer}.scale" in flat:
        return np.array(flat[f"{layer}.{'bias' if kind == 'bias' else 'scale'}"])
    kernel = flat[f"{layer}.kernel"]
    if kernel.ndim == 4:  # [h, w, in, out]
        return np.array(kernel.transpose(3, 2, 0, 1))
    if layer == "hidden":  # PyTorch's channels come before its pixels
        side = round((shape[1] // 64) ** 0.5)
        kernel = kernel.reshape(side, side, 64, -1).transpose(2, 0, 1, 3).reshape(shape[::-1])
    return np.array(kernel.T)
