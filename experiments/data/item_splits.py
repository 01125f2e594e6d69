"""The splits of folders, archives and columns as those of a stream, as `stripes.Split`."""

from collections.abc import Sequence

import numpy as np

from experiments.data import decoding
from experiments.data.dataset import DataError
from experiments.data.items import Items, Opened
from experiments.data.reading import channels_of
from experiments.data.stripes import Decode, Shape


class ItemSplit:
    """One split of images of one's own, as `stripes.Split`."""

    def __init__(
        self, name: str, items: Items, class_names: tuple[str, ...], channels: int
    ) -> None:
        self.name, self._items = name, items
        self.classes, self.class_names, self.channels = len(class_names), class_names, channels

    def __len__(self) -> int:
        return len(self._items)

    def labels(self) -> np.ndarray:
        """The classes of all examples, as in `stripes.Split.labels`."""
        return self._items.label

    def read(
        self, indices: Sequence[int], shape: Shape, decode: Decode, labeled: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads some examples; arguments, result and errors as in `stripes.Split.read`."""
        image = np.empty((len(indices), *shape), np.uint8)
        for i, index in enumerate(indices):
            with self._items.explained(index):
                image[i] = decode(i, decoding.opened(self._items.kept(index)))
        label = self._items.label[list(indices)]
        return image, label if labeled else np.full_like(label, -1)


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
