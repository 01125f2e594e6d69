"""Images side by side in one array, each in the size that a sheet gives it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

GAP = 4  # pixels between what stands side by side


def row(image: np.ndarray, cell: int) -> np.ndarray:
    """Images side by side, in colour, with white to the right of them and below.

    Args:
      image: uint8 `[N, H, W, 1 or 3]`.
      cell: pixels that the longer side of an image takes. Smaller images are enlarged by a whole
        factor, as far as they fit; of larger ones, areas are averaged.
    """
    colour = np.broadcast_to(image, (*image.shape[:3], 3))
    wide = np.concatenate([_fitted(each, cell) for each in colour], 1)
    return np.pad(wide, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def sheet(image: np.ndarray, cell: int | None = None) -> np.ndarray:
    """Rows of images as one array in colour, with white between them.

    Args:
      image: `[R, N, H, W, 1 or 3]`, as `as_bytes` takes them.
      cell: as in `row`; None leaves them as large as they are.

    Example:
      >>> sheet(np.zeros((10, 8, 28, 28, 1))).shape
      (320, 256, 3)
    """
    size = cell or max(image.shape[2:4])
    lines = ([row(each[None], size) for each in line] for line in as_bytes(image))
    return np.concatenate([np.concatenate(line, 1) for line in lines])


def show(axes: Axes, picture: np.ndarray, names: Sequence[str] = (), size: float = 8) -> None:
    """Shows a sheet without a frame, and names of its rows to the left of it.

    Args:
      axes: for it alone.
      picture: uint8 `[H, W, 3]`, as `sheet` returns it.
      names: one a row; none leaves them out.
      size: of the letters, in points.
    """
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_frame_on(False)
    if names:
        axes.set_yticks((np.arange(len(names)) + 0.5) * len(picture) / len(names), names)
        axes.tick_params("y", length=0, labelsize=size)


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Pixels as uint8; of floats, what is beyond 0 and 1 or not finite becomes black or white."""
    if image.dtype == np.uint8:
        return image
    return np.round(np.clip(np.nan_to_num(image, posinf=1.0), 0, 1) * 255).astype(np.uint8)


def _fitted(image: np.ndarray, cell: int) -> np.ndarray:
    """An image whose longer side is `cell`, or less where it is enlarged by a whole factor."""
    longer = max(image.shape[:2])
    if longer <= cell:
        return image.repeat(cell // longer, 0).repeat(cell // longer, 1)
    height, width = (max(side * cell // longer, 1) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
