"""The splits of a prepared data set as encoded images, decoded only where they are needed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import sources

Decode = Callable[[int, bytes], np.ndarray]


class Split:
    """One split of a data set; it can be sent to another process.

    Attributes:
      classes: number of classes, labelled from 0.
      channels: of an image, 1 or 3.
    """

    def __init__(self, name: str, folder: Path, split: str, builder: Any) -> None:
        self._name, self._folder, self._split = name, folder, split
        features = builder.info.features
        self.classes: int = features["label"].num_classes
        self.channels: int = features["image"].shape[-1]
        decoders = {"image": tfds.decode.SkipDecoding()}
        self._source = builder.as_data_source(split=split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._source)

    def read(
        self, indices: Sequence[int], shape: tuple[int, int, int], decode: Decode
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads some examples.

        Args:
          indices: their places in the stored split.
          shape: of the decoded images.
          decode: from the position in `indices` and the encoded image to pixels of that shape.

        Returns:
          image: uint8 [n, H, W, K].
          label: int32 [n].

        Raises:
          sources.DataError: if one cannot be read or decoded, or its label is not a class.
        """
        image = np.empty((len(indices), *shape), np.uint8)
        label = np.empty(len(indices), np.int32)
        for i, record in enumerate(self._records(indices)):
            with self._explained(indices[i]):
                label[i] = self._checked(record["label"])
                image[i] = decode(i, record["image"])
        return image, label

    def is_labelled(self) -> bool:
        """Whether the labels are there: TFDS gives -1 to those that are withheld."""
        return self._records([0])[0]["label"] >= 0

    def _records(self, indices: Sequence[int]) -> Sequence[dict[str, Any]]:
        try:
            return self._source.__getitems__(indices)  # ten times as fast as one by one
        except Exception:  # one of them is damaged: which one?
            return [self._record(index) for index in indices]

    def _record(self, index: int) -> dict[str, Any]:
        with self._explained(index):
            return self._source[index]

    def _checked(self, label: int) -> int:
        if not 0 <= label < self.classes:
            raise ValueError(f"its label {label} is not from 0 to {self.classes - 1}")
        return label

    @contextmanager
    def _explained(self, index: int) -> Iterator[None]:
        try:
            yield
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # array_record, protobuf and Pillow have their own
            reason = sources.first_line(error)
            where = f"example {index} of its {self._split} split: {reason}"
            raise sources.unreadable(self._name, self._folder, where) from error


def open_splits(name: str, folder: Path) -> tuple[Split, Split]:
    """Opens the training split and the one to score: "test", or else "validation".

    A test split whose labels are withheld, as in "imagenet2012", does not count.

    Raises:
      sources.MissingDataError: if the data set is not there.
      sources.DataError: if it cannot be read or is not of labelled uint8 images.
    """
    with sources.explained(name, folder):
        builder = sources.open_builder(name, folder)
        splits = {split: Split(name, folder, split, builder) for split in _checked_splits(builder)}
        labelled = [s for s in ("test", "validation") if s in splits and splits[s].is_labelled()]
        if not labelled:
            raise sources.DataError(
                f"The test labels of the data set in {builder.data_path} are withheld, and it has "
                "no validation split."
            )
        return splits["train"], splits[labelled[0]]


def _checked_splits(builder: Any) -> list[str]:
    info, where = builder.info, f"The data set in {builder.data_path}"
    splits = [s for s in ("train", "test", "validation") if s in info.splits]
    if "train" not in splits or len(splits) == 1:
        missing = "train" if "train" not in splits else "test and no validation"
        raise sources.DataError(f"{where} has no {missing} split.")
    features = info.features
    if not sources.is_classification(features) or features["image"].shape[-1] not in (1, 3):
        raise sources.DataError(
            f"{where} does not have a uint8 'image' of one or three channels and a class 'label', "
            f"but {' '.join(repr(features).split())}."
        )
    for split in splits:
        if not info.splits[split].num_examples:
            raise sources.DataError(f"{where} has no examples in its {split} split.")
        if absent := [path for path in info.splits[split].filepaths if not path.exists()]:
            raise FileNotFoundError(f"the file {absent[0].name} is missing")
    return splits
