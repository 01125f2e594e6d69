"""What one process reads of each batch, and the chunks in which its workers read it."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from experiments.data import crops, subsets
from experiments.data.dataset import IGNORED

Shape = tuple[int, int, int]
Decode = Callable[[int, crops.Picture], np.ndarray]
Train = tuple[np.ndarray, np.ndarray, np.ndarray]
Test = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

# Images that one thread or process decodes before it hands them on: few, so that a batch is made by
# many and little waits in memory.
_CHUNK = 32
_CROP, _UNLABELED_CROP = 3, 5  # random streams of crops, apart from those in subsets.py


class Split(Protocol):
    """One split of a data set, read when it is asked for; it can be sent to another process.

    Attributes:
      name: the name of the split.
      classes: the number of classes, labelled from 0.
      class_names: a name for each class.
      channels: the number of channels of an image, 1 or 3.
      dense: whether every pixel has a class, and not every image.
    """

    name: str
    classes: int
    class_names: tuple[str, ...]
    channels: int
    dense: bool

    def __len__(self) -> int:
        """The number of examples."""

    def labels(self) -> np.ndarray:
        """The classes of all examples, int32 [N], unless these have masks; no image is decoded.

        Raises:
          DataError: if one cannot be read, or is not a class.
        """

    def size(self) -> tuple[int, int]:
        """Height and width of the first image, before it is cropped.

        Raises:
          DataError: if it cannot be read.
        """

    def read(
        self, indices: Sequence[int], shape: Shape, decode: Decode, labeled: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads some examples.

        Args:
          indices: their places in the stored split.
          shape: of the decoded images.
          decode: from the position in `indices` and the encoded image to pixels of that shape.
          labeled: whether the labels are wanted, and so checked.

        Returns:
          image: uint8 [n, H, W, K].
          label: int32 [n], -1 where they are not wanted; of masks uint8 [n, H, W], `IGNORED`
            there and where a pixel has no class.

        Raises:
          DataError: if one cannot be read or decoded, is of another size, or its label is not a
            class.
        """


def unlabeled(count: int, shape: Shape, dense: bool) -> np.ndarray:
    """The labels of so many images of a shape, if these are not wanted, as in `Split.read`."""
    if dense:
        return np.full((count, *shape[:2]), IGNORED, np.uint8)
    return np.full(count, -1, np.int32)


class Stripe(NamedTuple):
    """What one process reads of each batch: `size` examples from place `first` on."""

    batch_size: int
    first: int
    size: int

    @property
    def parts(self) -> int:
        """Chunks in a batch."""
        return -(-self.size // _CHUNK)

    def places(self, chunk: int) -> np.ndarray:
        """The places of a chunk's examples in the stream of all processes, int64."""
        batch, part = divmod(chunk, self.parts)
        start, end = (self.size * p // self.parts for p in (part, part + 1))
        return np.arange(start, end) + batch * self.batch_size + self.first


def make_stripe(batch_size: int, process_index: int, process_count: int) -> Stripe:
    """Returns the part of a process; raises ValueError if they cannot share the batch evenly."""
    if batch_size < 1 or process_count < 1 or batch_size % process_count:
        raise ValueError(
            f"A batch of {batch_size} examples cannot be shared evenly by {process_count} "
            "processes: make batch_size a positive multiple of their number."
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"There is no process {process_index} among {process_count}.")
    size = batch_size // process_count
    return Stripe(batch_size, process_index * size, size)


class TrainChunks:
    """The endless training stream as a data source: its element `k` is chunk `k`.

    With `labeled=False` it is the second stream, of other orders and crops, whose labels are -1.
    With `resize="whole"`, or masks, images are neither cropped nor flipped.
    """

    def __init__(
        self,
        split: Split,
        shape: Shape,
        stripe: Stripe,
        seed: int,
        labeled: bool = True,
        resize: str = "centre",
    ) -> None:
        self._split, self._shape, self.stripe, self._seed = split, shape, stripe, seed
        self._labeled, self._resize = labeled, resize

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, chunk: int) -> Train:
        count = len(self._split)
        epoch, place = np.divmod(self.stripe.places(chunk), count)
        pairs = zip(epoch.tolist(), place, strict=True)
        orders = self._seed, self._labeled
        index = np.array([_order(count, e, *orders)[p] for e, p in pairs])
        stream = _CROP if self._labeled else _UNLABELED_CROP

        def crop(i: int, encoded: crops.Picture) -> np.ndarray:
            if self._split.dense or self._resize == "whole":
                return _whole(self._split, encoded, self._shape, self._resize)
            generator = np.random.default_rng((stream, int(epoch[i]), int(index[i]), self._seed))
            return crops.random_crop(encoded, *self._shape[1:], generator)

        image, label = self._split.read(index.tolist(), self._shape, crop, self._labeled)
        return image, label, index


class TestChunks:
    """The examples to score as a data source, the last batch filled up with zeros."""

    def __init__(self, split: Split, shape: Shape, stripe: Stripe, resize: str = "centre") -> None:
        self._split, self._shape, self.stripe, self._resize = split, shape, stripe, resize

    def __len__(self) -> int:
        return -(-len(self._split) // self.stripe.batch_size) * self.stripe.parts

    def __getitem__(self, chunk: int) -> Test:
        index = self.stripe.places(chunk)
        real = index < len(self._split)

        def crop(_: int, encoded: crops.Picture) -> np.ndarray:
            return _whole(self._split, encoded, self._shape, self._resize)

        image, label = self._split.read(index[real].tolist(), self._shape, crop)
        weight = np.ones(real.sum(), np.float32)
        parts = image, label, index[real].astype(np.int32), weight
        image, label, index, weight = (_filled(part, len(real)) for part in parts)
        return image, label, index, weight


def _whole(split: Split, encoded: crops.Picture, shape: Shape, resize: str) -> np.ndarray:
    """An image as it is scored: as it is stored if it has a mask, or else resized."""
    if split.dense:
        return crops.whole(encoded, shape[2])
    return crops.RESIZE[resize](encoded, *shape[1:])


def _filled(x: np.ndarray, length: int) -> np.ndarray:
    """Zeros after `x`, up to the length."""
    return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])


@functools.lru_cache(maxsize=4)  # a batch of each stream may end one epoch and begin the next
def _order(count: int, epoch: int, seed: int, labeled: bool) -> np.ndarray:
    """The examples in the order of an epoch, int32, as for data in memory."""
    if labeled:
        return subsets.epoch_batches(np.arange(count), count, epoch, seed)[0][0]
    return subsets.endless_order(count, epoch, seed)
