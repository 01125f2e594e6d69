"""Images side by side in one array, each in the size that a sheet gives it."""

import numpy as np
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


def _fitted(image: np.ndarray, cell: int) -> np.ndarray:
    """An image whose longer side is `cell`, or less where it is enlarged by a whole factor."""
    longer = max(image.shape[:2])
    if longer <= cell:
        return image.repeat(cell // longer, 0).repeat(cell // longer, 1)
    height, width = (max(side * cell // longer, 1) for side in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
