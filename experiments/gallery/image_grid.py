"""Images beside each other as one picture."""

from __future__ import annotations

import numpy as np

GAP, GROUND = 2, 255  # pixels between images, and what they are


def grid(image: np.ndarray) -> np.ndarray:
    """Rows of images as one picture.

    Args:
      image: `[R, N, H, W, K]`, R rows of N images, of 1 or 3 channels; uint8, or floats in [0, 1],
        of which those that are not finite become 0.

    Returns:
      uint8 `[R * (H + 2) - 2, N * (W + 2) - 2, K]`.

    Example:
      >>> grid(np.zeros((10, 8, 28, 28, 1))).shape
      (298, 238, 1)
    """
    rows, columns, height, width, channels = image.shape
    apart = ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0))
    spread = np.pad(as_bytes(image), apart, constant_values=GROUND)
    whole = spread.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height + GAP), columns * (width + GAP), channels
    )
    return whole[:-GAP, :-GAP]


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Pixels as uint8, of floats in [0, 1]."""
    if image.dtype == np.uint8:
        return image
    return np.round(np.clip(np.nan_to_num(image, posinf=1.0), 0, 1) * 255).astype(np.uint8)
