"""The splits of a prepared data set as encoded images, decoded only where they are needed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import arrays, crops, masks
from experiments.data.dataset import DATASETS, DataError
from experiments.data.prepared import (
    explained,
    first_line,
    has_classes,
    has_own_validation,
    open_builder,
    require,
    scored_split,
    undecoded,
    unreadable,
)
from experiments.data.stripes import Decode, Shape, unlabeled

_AT_ONCE = 256  # records that are in memory together while labels are read


class RecordSplit:
    """One split of a prepared data set, as `stripes.Split`."""

    def __init__(
        self, name: str, folder: Path, split: str, builder: Any, image: str, label: str
    ) -> None:
        self._name, self._folder, self.name = name, folder, split
        self._image, self._label = image, label
        features, self._masks = builder.info.features, masks.of_feature(builder, label)
        self.dense = self._masks is not None
        self.class_names = arrays.class_names(builder, label)
        self.classes = len(self.class_names)
        self.channels: int = features[image].shape[-1]
        self._source = builder.as_data_source(split=split, decoders=undecoded(features))

    def __len__(self) -> int:
        return len(self._source)

    def labels(self) -> np.ndarray:
        """The classes of all examples, as in `stripes.Split.labels`."""
        label = np.empty(len(self), np.int32)
        for first in range(0, len(self), _AT_ONCE):
            indices = range(first, min(first + _AT_ONCE, len(self)))
            for index, record in zip(indices, self._records(indices), strict=True):
                with self._explained(index):
                    label[index] = self._checked(record[self._label])
        return label

    def size(self) -> tuple[int, int]:
        """Height and width of the first image."""
        with self._explained(0):
            return crops.size_of(self._record(0)[self._image])

    def read(
        self, indices: Sequence[int], shape: Shape, decode: Decode, labeled: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads some examples; arguments, result and errors as in `stripes.Split.read`."""
        image = np.empty((len(indices), *shape), np.uint8)
        label = unlabeled(len(indices), shape, self.dense)
        for i, record in enumerate(self._records(indices)):
            with self._explained(indices[i]):
                found = self._checked(record[self._label]) if labeled else label[i]
                pixels = decode(i, record[self._image])
            for name, x in (("image", pixels), ("mask", found)) if self.dense else ():
                which = f"The {name} of example {indices[i]} of the {self.name} split"
                masks.check_shape(f"{which} of {self._name!r}", x.shape, shape)
            image[i], label[i] = pixels, found
        return image, label

    def _records(self, indices: Sequence[int]) -> Sequence[dict[str, Any]]:
        try:
            return self._source.__getitems__(indices)  # ten times as fast as one by one
        except Exception:  # one of them is damaged: which one?
            return [self._record(index) for index in indices]

    def _record(self, index: int) -> dict[str, Any]:
        with self._explained(index):
            return self._source[index]

    def _checked(self, label: Any) -> np.ndarray:
        """A class, or a decoded mask of them."""
        if self._masks is not None:
            mask = self._masks.decoded(label)
            self._masks.check(mask)
            return mask
        if not 0 <= label < self.classes:
            raise ValueError(f"its label {label} is not from 0 to {self.classes - 1}")
        return np.asarray(label, np.int32)

    @contextmanager
    def _explained(self, index: int) -> Iterator[None]:
        try:
            yield
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # array_record, protobuf and Pillow have their own
            reason = first_line(error)
            where = f"example {index} of its {self.name} split: {reason}"
            raise unreadable(self._name, self._folder, where) from error


def open_splits(
    name: str,
    folder: Path,
    image: str = "image",
    label: str = "label",
    validation: bool = False,
) -> list[RecordSplit]:
    """Opens the training split and the one to score: "test", or else "validation".

    Args:
      name: of a TFDS data set.
      folder: of prepared data sets.
      image: the key of the images.
      label: the key of the classes.
      validation: whether to open the validation split as a third one, where there is one besides
        the test split.

    Raises:
      MissingDataError: if the data set is not there.
      DataError: if it cannot be read or is not of labelled uint8 images.
    """
    if name in DATASETS:
        raise DataError(
            f"The data set {name!r} is registered, and so is read into memory: set "
            "config.data='memory'."
        )
    with explained(name, folder):
        builder = open_builder(name, folder)
        require(builder, "train")
        _check_features(builder, image, label)
        splits = ["train", scored_split(builder, label)]
        splits += ["validation"] if validation and has_own_validation(builder, label) else []
        return [RecordSplit(name, folder, each, builder, image, label) for each in splits]


def _check_features(builder: tfds.core.DatasetBuilder, image: str, label: str) -> None:
    features = builder.info.features
    fits = image in undecoded(features) and features[image].shape[-1] in (1, 3)
    has_labels = masks.of_feature(builder, label) is not None or has_classes(builder, label)
    if not fits or not has_labels:
        raise DataError(
            f"The data set in {builder.data_path} does not have a uint8 {image!r} of one or three "
            f"channels and a class {label!r}, or a mask of classes, but "
            f"{' '.join(repr(features).split())}: name others in config.image_key and "
            "config.label_key."
        )
