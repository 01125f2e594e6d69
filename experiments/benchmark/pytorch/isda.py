"""ISDA as its authors' formulas are computed with batched products: arrays [B, C, A], no loops."""

from __future__ import annotations

import torch
from torch.nn import functional


class Statistics:
    """Means [C, A] and covariances [C, A, A] of all features seen, by class."""

    def __init__(self, classes: int, features: int, device: torch.device) -> None:
        """Nothing is seen yet."""
        self.covariance = torch.zeros(classes, features, features, device=device)
        self.mean = torch.zeros(classes, features, device=device)
        self.count = torch.zeros(classes, device=device)

    def update(self, features: torch.Tensor, label: torch.Tensor) -> None:
        """Takes in features [B, A] of labels [B]."""
        one_hot = functional.one_hot(label, len(self.count)).to(features.dtype)
        count = one_hot.sum(0)
        by_class = features[:, None] * one_hot[..., None]  # [B, C, A]
        mean = by_class.sum(0) / count.clamp(min=1)[:, None]
        centred = ((by_class - mean) * one_hot[..., None]).permute(1, 2, 0)  # [C, A, B]
        scatter = torch.bmm(centred, centred.mT) / count.clamp(min=1)[:, None, None]
        share = count / (count + self.count).clamp(min=1)
        off, share_2 = self.mean - mean, share[:, None, None]
        between = share_2 * (1 - share_2) * torch.bmm(off[..., None], off[:, None])
        self.covariance = (1 - share_2) * self.covariance + share_2 * scatter + between
        self.mean = (1 - share[:, None]) * self.mean + share[:, None] * mean
        self.count = self.count + count

    def loss(
        self,
        features: torch.Tensor,
        kernel: torch.Tensor,
        bias: torch.Tensor,
        label: torch.Tensor,
        strength: float,
    ) -> torch.Tensor:
        """The bound on the expected cross entropy, for a last layer of kernel [C, A]."""
        differences = kernel[None] - kernel[label][:, None]  # [B, C, A]
        products = torch.bmm(torch.bmm(differences, self.covariance[label]), differences.mT)
        quadratic = torch.diagonal(products, dim1=1, dim2=2)
        logits = features @ kernel.T + bias + 0.5 * strength * quadratic
        return functional.cross_entropy(logits, label)
