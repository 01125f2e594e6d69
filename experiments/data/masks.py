"""Labels of one class for every pixel, as PNGs: which classes there are, and how one is decoded."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import crops
from experiments.data.dataset import IGNORED, DataError


class Masks(NamedTuple):
    """The classes of masks.

    Attributes:
      class_names: a name for each class.
      table: uint8 [256], the class of each stored number, `IGNORED` for none; None where masks
        hold the classes themselves.
    """

    class_names: tuple[str, ...]
    table: np.ndarray | None = None

    def decoded(self, encoded: bytes, size: int = 0, resize: str = "centre") -> np.ndarray:
        """Decodes a mask.

        Args:
          encoded: a file of one channel, or of colours by their numbers.
          size: height and width of the result; 0 for its own.
          resize: a key of `crops.RESIZE`.

        Returns:
          The class of every pixel, uint8 [H, W], `IGNORED` for none.

        Raises:
          OSError: if Pillow cannot decode it.
        """
        mask = crops.resized_mask(encoded, size, resize) if size else crops.mask(encoded)
        # Of another array, in which no number is replaced twice.
        return mask if self.table is None else self.table[mask]

    def check(self, mask: np.ndarray) -> None:
        """Looks whether all classes of a decoded mask are there.

        Raises:
          ValueError: if there is one more.
        """
        classes = len(self.class_names)
        wrong = mask[(mask >= classes) & (mask != IGNORED)]
        if wrong.size:
            raise ValueError(
                f"a pixel is of the class {wrong[0]}, but classes are from 0 to {classes - 1}, or "
                f"{IGNORED} where a pixel is ignored"
            )


def by_numbers(numbers: Mapping[str, int]) -> Masks:
    """Masks of other numbers than the classes, which are counted in the order of their names.

    Args:
      numbers: by class the number in the masks; all others are of none.

    Example:
      `by_numbers({"road": 7, "sky": 23}).table[[0, 7, 23]]` is `[255, 0, 1]`.
    """
    table = np.full(256, IGNORED, np.uint8)
    table[list(numbers.values())] = np.arange(len(numbers))
    return Masks(tuple(numbers), table)


# The ids in `*_gtFine_labelIds.png` of the classes that are evaluated, in the order of their train
# ids, by the authors' cityscapesscripts/helpers/labels.py.
CITYSCAPES = by_numbers(
    {
        "road": 7,
        "sidewalk": 8,
        "building": 11,
        "wall": 12,
        "fence": 13,
        "pole": 17,
        "traffic light": 19,
        "traffic sign": 20,
        "vegetation": 21,
        "terrain": 22,
        "sky": 23,
        "person": 24,
        "rider": 25,
        "car": 26,
        "truck": 27,
        "bus": 28,
        "train": 31,
        "motorcycle": 32,
        "bicycle": 33,
    }
)

# Of TFDS's data sets whose features do not say what the numbers in their masks are.
_BY_NAME = {"cityscapes": CITYSCAPES}


def of_feature(builder: tfds.core.DatasetBuilder, label: str) -> Masks | None:
    """The masks of a prepared data set; None where the feature is none of masks.

    That is a labelled image, or, in a data set whose stored numbers are known by its name, as
    "cityscapes", any image of one channel.
    """
    features = builder.info.features
    feature = dict(features.items()).get(label)
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
        return None
    if isinstance(feature, tfds.features.LabeledImage):
        return Masks(tuple(feature.names)) if feature.num_classes else None
    return _BY_NAME.get(builder.name) if feature.shape[-1] == 1 else None


def check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Looks whether an image of a stream, which is read as it is stored, is as large as the first.

    Args:
      name: of the image, in an error.
      shape: (H, W, ...).
      expected: that of the first image.

    Raises:
      DataError: if it is not.
    """
    if shape[:2] != expected[:2]:
        ours, first = (f"{height} x {width}" for height, width in (shape[:2], expected[:2]))
        raise DataError(
            f"{name} is of {ours} pixels, but the first image of {first}: images with masks are "
            "streamed as they are stored and must be of one size, with their masks. In memory "
            "(config.data='memory') config.image_size resizes them."
        )
