"""Losses of regjax in PyTorch: functions of a network, images [B, K, H, W] and labels [B]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from experiments.benchmark.pytorch.networks import At

Network = Callable[..., torch.Tensor]
Loss = Callable[[Network, torch.Tensor, torch.Tensor], torch.Tensor]


def plain(network: Network, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Cross entropy."""
    return functional.cross_entropy(network(image), label)


def double_backprop(
    network: Network, image: torch.Tensor, label: torch.Tensor, weight: float = 0.1
) -> torch.Tensor:
    """Cross entropy and the squared gradient of each example's with respect to its image."""
    image.requires_grad_()
    loss = functional.cross_entropy(network(image), label, reduction="sum")
    return (loss + weight * _squared(loss, image)) / len(image)


def jacobian(
    network: Network, image: torch.Tensor, label: torch.Tensor, weight: float = 0.1
) -> torch.Tensor:
    """Cross entropy and the squared Jacobian of the softmax output, one backward pass a class."""
    image.requires_grad_()
    logits = network(image)
    outputs = logits.softmax(-1).sum(0)
    norm = torch.stack([_squared(output, image) for output in outputs]).sum()
    return functional.cross_entropy(logits, label) + weight * norm / len(image)


def one_probe(
    network: Network, image: torch.Tensor, label: torch.Tensor, weight: float = 0.1
) -> torch.Tensor:
    """The same, estimated by one random sign for each output of an example."""
    image.requires_grad_()
    logits = network(image)
    signs = torch.randint(0, 2, logits.shape, device=logits.device) * 2.0 - 1
    norm = _squared((signs * logits.softmax(-1)).sum(), image)
    return functional.cross_entropy(logits, label) + weight * norm / len(image)


def mixup(
    network: Network, image: torch.Tensor, label: torch.Tensor, alpha: float = 1.0
) -> torch.Tensor:
    """Cross entropy of pairs of images, mixed with their labels."""
    share, partner = _pairs(len(image), alpha, image.device)
    logits = network(_mixed(image, share, partner))
    return _mixed_entropy(logits, label, share, partner)


def noisy_feature_mixup(
    network: Network,
    image: torch.Tensor,
    label: torch.Tensor,
    layers: tuple[str, ...],
    alpha: float = 1.0,
    add: float = 0.4,
    multiply: float = 0.2,
) -> torch.Tensor:
    """Cross entropy of pairs mixed in a layer drawn at random, with noise there."""
    share, partner = _pairs(len(image), alpha, image.device)
    levels = torch.distributions.Beta(2.0, 5.0).sample((2,)).tolist()

    def change(h: torch.Tensor) -> torch.Tensor:
        factor = 1 + multiply * levels[1] * (2 * torch.rand_like(h) - 1)
        return factor * _mixed(h, share, partner) + add * levels[0] * torch.randn_like(h)

    at: At = {layers[int(torch.randint(len(layers), ()))]: change}
    return _mixed_entropy(network(image, at), label, share, partner)


def _squared(output: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(output, image, create_graph=True)
    return gradient.square().sum()


def _pairs(count: int, alpha: float, device: torch.device) -> tuple[float, torch.Tensor]:
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    return share, torch.randperm(count, device=device)


def _mixed(h: torch.Tensor, share: float, partner: torch.Tensor) -> torch.Tensor:
    return share * h + (1 - share) * h[partner]


def _mixed_entropy(
    logits: torch.Tensor, label: torch.Tensor, share: float, partner: torch.Tensor
) -> torch.Tensor:
    first, second = (functional.cross_entropy(logits, each) for each in (label, label[partner]))
    return share * first + (1 - share) * second
