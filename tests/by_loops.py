"""Views of images in NumPy float64: windows pixel by pixel, linear interpolation side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Network = Callable[[np.ndarray], np.ndarray]


def convolved(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A 3 x 3 kernel [3, 3, K, C] over images [B, H, W, K] with zeros around them."""
    height, width = image.shape[1:3]
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def interpolated(x: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Bilinear, pixels being squares: output i of m lies at (i + 1/2) n / m - 1/2."""
    for axis, m in enumerate(size, start=1):
        n = x.shape[axis]
        places = (np.arange(m) + 0.5) * n / m - 0.5
        line = lambda values, n=n, at=places: np.interp(at, np.arange(n), values)  # noqa: E731
        x = np.apply_along_axis(line, axis, x)
    return x


def begins(n: int, size: int, stride: int) -> list[int]:
    """Where windows begin along a side."""
    found, at = [], 0
    while at + size < n:
        found.append(at)
        at += stride
    return [*found, max(n - size, 0)]


def slid(network: Network, image: np.ndarray, size: int | None, stride: int | None) -> np.ndarray:
    """The mean over the windows that cover a pixel."""
    if size is None or stride is None:
        return network(image)
    height, width = image.shape[1:3]
    answers: dict[tuple[int, int], list[np.ndarray]] = {}
    for top in begins(height, size, stride):
        for left in begins(width, size, stride):
            logits = network(image[:, top : top + size, left : left + size])
            for y, x in np.ndindex(*logits.shape[1:3]):
                answers.setdefault((top + y, left + x), []).append(logits[:, y, x])
    rows = [[np.mean(answers[y, x], 0) for x in range(width)] for y in range(height)]
    return np.moveaxis(np.array(rows), 2, 0)


def viewed(
    network: Network,
    image: np.ndarray,
    size: int | None = None,
    stride: int | None = None,
    scales: Sequence[float] = (1.0,),
    flips: bool = False,
    axis: int = 2,
) -> np.ndarray:
    """The mean logits over all views; `axis` is the one that answers are mirrored back on."""
    height, width = image.shape[1:3]
    each = []
    for scale in scales:
        seen = interpolated(image, (round(scale * height), round(scale * width)))
        logits = slid(network, seen, size, stride)
        if flips:
            other = slid(network, seen[:, :, ::-1], size, stride)
            logits = (logits + np.flip(other, axis)) / 2
        each.append(interpolated(logits, (height, width)))
    return np.mean(each, 0)
