"""The splits of folders, archives and columns as those of a stream, as `stripes.Split`."""

from collections.abc import Sequence

import numpy as np

from experiments.data import decoding, masks
from experiments.data.dataset import DataError
from experiments.data.items import Items, Opened
from experiments.data.reading import channels_of
from experiments.data.stripes import Decode, Shape, unlabeled


class ItemSplit:
    """One split of images of one's own, as `stripes.Split`."""

    def __init__(
        self, name: str, items: Items, class_names: tuple[str, ...], channels: int
    ) -> None:
        self.name, self._items = name, items
        self.classes, self.class_names, self.channels = len(class_names), class_names, channels
        self.dense = items.dense is not None

    def __len__(self) -> int:
        return len(self._items)

    def labels(self) -> np.ndarray:
        """The classes of all examples, as in `stripes.Split.labels`."""
        return self._items.label

    def size(self) -> tuple[int, int]:
        """Height and width of the first image."""
        return self._items.outline(0)[:2]

    def read(
        self, indices: Sequence[int], shape: Shape, decode: Decode, labeled: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads some examples; arguments, result and errors as in `stripes.Split.read`."""
        image = np.empty((len(indices), *shape), np.uint8)
        for i, index in enumerate(indices):
            with self._items.explained(index):
                pixels = decode(i, decoding.opened(self._items.kept(index)))
            masks.check_shape(f"The {self._items.name_of(index)}", pixels.shape, shape)
            image[i] = pixels
        return image, self._label(indices, shape, labeled)

    def _label(self, indices: Sequence[int], shape: Shape, labeled: bool) -> np.ndarray:
        label = unlabeled(len(indices), shape, self.dense)
        for i, index in enumerate(indices if labeled else ()):
            label[i] = self._items.mask(index) if self.dense else self._items.label[index]
        return label


def item_splits(opened: Opened) -> list[ItemSplit]:
    """The training split, the one to score, and the validation split where there is one.

    Raises:
      DataError: if the images are floats, or have channels that cannot be cropped.
    """
    for items in opened.splits.values():
        first = items.kept(0)
        if isinstance(first, np.ndarray) and (
            first.dtype != np.uint8 or first.shape[-1] not in (1, 3)
        ):
            raise DataError(
                f"The images of {opened.name!r} are {first.dtype} {list(first.shape)}, but those "
                "of a stream must be uint8, of one or three channels: set config.data='memory'."
            )
    channels = channels_of(opened)
    return [
        ItemSplit(name, items, opened.class_names, channels)
        for name, items in opened.splits.items()
    ]
