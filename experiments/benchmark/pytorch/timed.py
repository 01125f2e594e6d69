"""Training steps in PyTorch that are timed as `tables.Step` is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import regjax as rj
from experiments.benchmark.pytorch.isda import Statistics
from experiments.benchmark.pytorch.losses import Loss

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def device() -> torch.device:
    """A GPU where there is one, as JAX takes it."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Step:
    """A loss's training steps with Adam, on stored images [N, H, W, K] and labels [N]."""

    def __init__(
        self,
        network: torch.nn.Module,
        loss: Loss,
        data: dict[str, np.ndarray],
        rows: np.ndarray,
        memory_format: str,
        compiled: bool = False,
    ) -> None:
        """Puts network and images into the memory format; `rows` [steps, batch] are taken."""
        where, layout = device(), FORMATS[memory_format]
        image = torch.from_numpy(np.array(data["image"])).permute(0, 3, 1, 2)
        self._image = image.to(where).contiguous(memory_format=layout)
        self._label = torch.from_numpy(np.array(data["label"])).long().to(where)
        self._rows = torch.from_numpy(rows).long().to(where)
        network = network.to(where).to(memory_format=layout)
        self._network: Any = torch.compile(network) if compiled else network
        self._optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
        self._loss = loss

    def seconds(self) -> float:
        """Time of one step, in a loop of many."""
        return seconds_of(self._steps) / len(self._rows)

    def _steps(self) -> None:
        for row in self._rows:
            self._optimizer.zero_grad()
            image = self._image[row].float() / 255
            self._loss(self._network, image, self._label[row]).backward()
            self._optimizer.step()


class IsdaStep:
    """ISDA's loss, its gradients of features and last layer, and the update of its statistics."""

    def __init__(self, forward: rj.Forward, batch: rj.Batch) -> None:
        """On the arrays of `isda.problem`."""
        where, kernel = device(), np.array(forward.params["kernel"].T)
        self._features = torch.from_numpy(np.array(batch.image)).to(where).requires_grad_()
        self._label = torch.from_numpy(np.array(batch.label)).argmax(-1).to(where)
        self._kernel = torch.from_numpy(kernel).to(where).requires_grad_()
        self._bias = torch.zeros(len(self._kernel), device=where, requires_grad=True)
        classes, features = self._kernel.shape
        self._statistics = Statistics(classes, features, where)

    def seconds(self) -> float:
        """Time of one step."""
        return seconds_of(self.step)

    def step(self) -> list[torch.Tensor]:
        """The loss, and its gradients of features, kernel and bias."""
        self._statistics.update(self._features.detach(), self._label)
        of = (self._features, self._kernel, self._bias)
        loss = self._statistics.loss(*of, self._label, 0.5)
        return [loss, *torch.autograd.grad(loss, of)]


def seconds_of(action: Callable[[], object]) -> float:
    """Seconds until all that an action starts has ended."""
    _wait()
    start = time.perf_counter()
    action()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
