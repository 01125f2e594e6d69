"""Data sets larger than memory: images decoded and cropped on the host, read through Grain."""

import functools
import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments.data import kinds, reading
from experiments.data.dataset import DataError
from experiments.data.folders import data_folder
from experiments.data.item_splits import item_splits
from experiments.data.items import Options
from experiments.data.records import open_splits
from experiments.data.stripes import Split, Test, TestChunks, Train, TrainChunks, make_stripe
from experiments.data.workers import Chunks

IMAGE_SIZE = 224  # ImageNet's
USUAL = Options()


class Streams:
    """A data set that is read example by example.

    It has a training split and, to score, a test split, or where that is missing or its labels are
    withheld (as in "imagenet2012") a validation split.

    Args:
      name: of a TFDS data set in array_record format, of a folder or of another kind, as in
        `sources.load`; its images may differ in size, unless they have masks.
      data_dir: the folder of prepared data sets; by default TFDS's own.
      image_size: height and width of the crops; 0 for 224. It must be 0 for images that have masks,
        which are read as they are stored, for stages of a loss to crop.
      workers: processes that decode, each for a part of every batch; 0 for threads in this process.
      label: the key of the classes, or of the masks.
      options: which images are read, and how; resized as a "whole", they are neither cropped nor
        flipped. To leave broken ones out, each is decoded once at the start.
      validation: whether to open the validation split too, where there is one besides the test
        split that is scored.

    Attributes:
      classes: the number of classes, labelled from 0.
      class_names: a name for each class.
      scored: the split that is scored, "test" or "validation".
      dense: whether every pixel has a class, and not every image.
      shape: the shape of an image, (image_size, image_size, channels), or as it is stored.
      examples: the number of training examples.
      test_examples: the number of examples that are scored.
      about: lines about what was found, to be shown before anything is trained.
      validation_examples: the number of examples of the opened validation split, or 0.

    Raises:
      sources.MissingDataError: if the data set is not there.
      sources.DataError: if it cannot be read, is not of labelled uint8 images, or has masks, which
        are not resized.
      ValueError: if a number is too small.
    """

    def __init__(
        self,
        name: str,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        image_size: int = 0,
        workers: int = 0,
        label: str = "label",
        options: Options = USUAL,
        validation: bool = False,
    ) -> None:
        if image_size < 0 or workers < 0:
            raise ValueError(
                "The image size and the number of workers of a stream must not be negative, but "
                f"are {image_size} and {workers}."
            )
        self._train: Split
        self._test: Split
        self.about, self._resize = "", options.resize
        own: Sequence[Split]
        if kinds.kind_of(name):
            items = kinds.open_items(name, options, label, validation)
            opened, self.about = reading.sound(items, options)
            self._train, self._test, *own = item_splits(opened)
        else:
            of = (name, data_folder(data_dir), options.image, label)
            self._train, self._test, *own = open_splits(*of, validation)
        self.classes = self._train.classes
        self.class_names, self.scored = self._train.class_names, self._test.name
        self.dense = self._train.dense
        height, width = _size(name, self._train, image_size)
        self.shape = (height, width, self._train.channels)
        self.examples, self.test_examples = len(self._train), len(self._test)
        self._validation = own[0] if own else None
        self.validation_examples = 0 if self._validation is None else len(self._validation)
        self._workers = workers

    @functools.cached_property
    def class_counts(self) -> np.ndarray:
        """The number of training images of each class, int [classes], unless these have masks.

        Folders and archives know it; of a TFDS data set all records are read for it, once, and no
        image decoded. Raises `sources.DataError` if one cannot be read.
        """
        return np.bincount(self._train.labels(), minlength=self.classes)

    def train(
        self, batch_size: int, seed: int, process_index: int = 0, process_count: int = 1
    ) -> "TrainIterator":
        """Starts the endless stream of training batches, at its beginning.

        Every epoch holds each example once, in an order of its own, and batches run on across its
        end. Order, crops and flips depend on the seed, the epoch and the example alone: not on the
        number of workers, and the processes' batches side by side are the batch of a single one.

        Args:
          batch_size: over all processes.
          seed: not negative.
          process_index: which of the processes this is.
          process_count: the number of processes that share each batch.

        Returns:
          Batches (image uint8 [b, H, W, K], label int32 [b], index int32 [b]), where b is
          batch_size / process_count and index the example's place in the stored data set. Masks are
          labels uint8 [b, H, W], 255 where a pixel is ignored.

        Raises:
          ValueError: if the processes cannot share the batch evenly, or the seed is negative.
        """
        return self._endless(batch_size, seed, (process_index, process_count), True)

    def unlabeled(
        self, batch_size: int, seed: int, process_index: int = 0, process_count: int = 1
    ) -> "TrainIterator":
        """Starts a second endless stream of all training images, whose labels are all -1.

        Those of masks are all 255. Its orders and crops are others than those of `train` for the
        same seed; otherwise it is one of these, with the same arguments, batches and errors.
        """
        return self._endless(batch_size, seed, (process_index, process_count), False)

    def _endless(
        self, batch_size: int, seed: int, process: tuple[int, int], labeled: bool
    ) -> "TrainIterator":
        if seed < 0:
            raise ValueError(f"The seed of a stream must not be negative, but is {seed}.")
        stripe = make_stripe(batch_size, *process)
        chunks = TrainChunks(self._train, self.shape, stripe, seed, labeled, self._resize)
        return TrainIterator(chunks, self._workers)

    def validation(
        self, batch_size: int, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Test]:
        """Reads all examples of the opened validation split, as `test` does those to score."""
        assert self._validation is not None
        stripe = make_stripe(batch_size, process_index, process_count)
        return _test_batches(
            TestChunks(self._validation, self.shape, stripe, self._resize), self._workers
        )

    def test(
        self, batch_size: int, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Test]:
        """Reads all examples to score once, in the order in which they are stored.

        Args:
          batch_size: over all processes, as the other arguments in `train`.
          process_index: which of the processes this is.
          process_count: the number of processes.

        Yields:
          (image, label, index, weight float32 [b]), as many for every process; the last batch is
          filled up with zeros, whose weight is 0.

        Raises:
          ValueError: if the processes cannot share the batch evenly.
        """
        stripe = make_stripe(batch_size, process_index, process_count)
        return _test_batches(
            TestChunks(self._test, self.shape, stripe, self._resize), self._workers
        )


class TrainIterator(Iterator[Train]):
    """An endless stream of training batches that can be left and taken up again."""

    def __init__(self, source: TrainChunks, workers: int) -> None:
        self._source, self._workers = source, workers
        self._open(0)

    def _open(self, batch: int) -> None:
        parts = self._source.stripe.parts
        self._chunks = Chunks(self._source, batch * parts, self._workers)
        self._next_batch = batch

    def __next__(self) -> Train:
        """The next batch; raises `sources.DataError` if an example cannot be read."""
        image, label, index = self._chunks.take(self._source.stripe.parts)
        self._next_batch += 1
        return image, label, index

    def state(self) -> dict[str, int]:
        """Where the stream is; it fits any number of workers and of processes."""
        return {"next_batch": self._next_batch}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to where the stream of the same seed and batch size was at `state`.

        Raises:
          ValueError: if it is not what `state` returns.
        """
        try:
            batch = operator.index(state["next_batch"])
        except (KeyError, TypeError):
            batch = -1
        if batch < 0:
            raise ValueError(
                f"The state of a stream is {{'next_batch': number of a batch}}, not {state!r}."
            )
        self.close()
        self._open(batch)

    def close(self) -> None:
        """Ends its threads and processes."""
        self._chunks.close()


def _size(name: str, split: Split, image_size: int) -> tuple[int, int]:
    """Height and width of the images of a stream."""
    if not split.dense:
        return (image_size or IMAGE_SIZE,) * 2
    if image_size:
        raise DataError(
            f"{name!r} has masks, and is streamed as it is stored, for stages such as scaled_crop "
            f"to enlarge and crop: set config.image_size=0, not {image_size}, or "
            "config.data='memory'."
        )
    return split.size()


def _test_batches(source: TestChunks, workers: int) -> Iterator[Test]:
    chunks = Chunks(source, 0, workers)
    try:
        for _ in range(len(source) // source.stripe.parts):
            image, label, index, weight = chunks.take(source.stripe.parts)
            yield image, label, index, weight
    finally:
        chunks.close()
