"""Labelled images one by one, whatever they are kept in: a folder's files, rows, a column."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol, cast

import numpy as np

from experiments.data import crops, decoding
from experiments.data.dataset import DataError
from experiments.data.decoding import Pixels
from experiments.data.masks import Masks
from experiments.data.prepared import first_line


class Options(NamedTuple):
    """How the images of a data set are read.

    Attributes:
      image: the key of the images, in a data set that has keys.
      resize: what is brought to the image size: of each image the "centre", 224/256 of its shorter
        side, or the "whole" of it, whatever becomes of its shape.
      broken: whether a file of a folder or a column that cannot be decoded is an error ("refuse")
        or left out ("skip").
      test_share: the share of each class that is scored, where no test images are set apart.
      split_seed: the seed that draws them.
    """

    image: str = "image"
    resize: str = "centre"
    broken: str = "refuse"
    test_share: float = 0.2
    split_seed: int = 0


class Content(Protocol):
    """Images by number, read when they are asked for; it can be sent to another process."""

    def __getitem__(self, number: int) -> Pixels:
        """An image as it is kept."""

    def name_of(self, number: int) -> str:
        """What an error calls the image."""


class Dense(NamedTuple):
    """The masks of images.

    Attributes:
      content: the masks, by the numbers of their images.
      masks: what they hold.
    """

    content: Content
    masks: Masks


@dataclasses.dataclass(frozen=True, eq=False)
class Items:
    """One split of a data set.

    Attributes:
      content: the images of this split and perhaps of others.
      numbers: those of this split in it, int [N].
      label: their classes, int32 [N]; -1 of images that have masks.
      dense: the images' masks, as large as these; None where images have classes.
    """

    content: Content
    numbers: np.ndarray
    label: np.ndarray
    dense: Dense | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, places: np.ndarray) -> "Items":
        """Some of them, in the order of their places."""
        return Items(self.content, self.numbers[places], self.label[places], self.dense)

    def kept(self, place: int) -> Pixels:
        """An image as it is kept."""
        return self.content[int(self.numbers[place])]

    def outline(self, place: int) -> decoding.Outline:
        """What is known of an image before it is decoded; raises DataError as `decoded`."""
        with self.explained(place):
            return decoding.outline(self.kept(place))

    def decoded(self, place: int, size: int, channels: int, resize: str) -> np.ndarray:
        """Decodes an image.

        Args:
          place: of the image.
          size: height and width of the result; 0 for its own.
          channels: of the result.
          resize: as in `Options`.

        Raises:
          DataError: if that fails; its sentence names the image.
        """
        with self.explained(place):
            pixels = self.kept(place)
            if isinstance(pixels, np.ndarray) and not size:
                return pixels
            image = decoding.opened(pixels)
            resized = crops.RESIZE[resize]
            return resized(image, size, channels) if size else crops.whole(image, channels)

    def mask(self, place: int, size: int = 0, resize: str = "centre") -> np.ndarray:
        """Decodes an image's mask, uint8 [H, W], of items that have masks; arguments as `decoded`.

        Raises:
          DataError: if that fails, or a class is not there; its sentence names the mask.
        """
        assert self.dense is not None
        number, (content, masks) = int(self.numbers[place]), self.dense
        with _explained(f"mask {content.name_of(number)}"):
            mask = masks.decoded(cast(bytes, content[number]), size, resize)
            masks.check(mask)
            return mask

    def name_of(self, place: int) -> str:
        """What an error calls an image."""
        return f"image {self.content.name_of(int(self.numbers[place]))}"

    def explained(self, place: int) -> AbstractContextManager[None]:
        """Says of which image an error is.

        Raises:
          DataError: in place of any other.
        """
        return _explained(self.name_of(place))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow stumble over anything
        raise DataError(
            f"The {what} cannot be read ({first_line(error)}): mend or delete it, or leave such "
            "images out with config.broken='skip'."
        ) from error


class Opened(NamedTuple):
    """A data set whose images are still to be read.

    Attributes:
      name: the name of the data set.
      train: the training split.
      test: the split to score.
      class_names: a name for each class.
      scored: the name of the split to score, "test" or "validation".
      notes: sentences about what was found.
      validation: the validation split, where there is one besides the test split.
      bounds: the least and the largest value of floats.
      source: by the numbers of the training split's items, of which images of another data set
        they are copies.
    """

    name: str
    train: Items
    test: Items
    class_names: tuple[str, ...]
    scored: str = "test"
    notes: tuple[str, ...] = ()
    validation: Items | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    source: np.ndarray | None = None

    @property
    def dense(self) -> bool:
        """Whether every pixel has a class, and not every image."""
        return self.train.dense is not None

    @property
    def splits(self) -> dict[str, Items]:
        """The splits by name: the training split, the one to score, and the validation split."""
        own = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, self.scored: self.test, **own}

    def replaced(self, splits: Mapping[str, Items]) -> "Opened":
        """The data set with other items in its splits."""
        train, test, *own = splits.values()
        return self._replace(train=train, test=test, validation=own[0] if own else None)

    def without_validation(self) -> "Opened":
        """The data set without its validation split, which a note tells of."""
        if self.validation is None:
            return self
        note = (
            f"Not looked at: {len(self.validation)} validation images (those of config.dataset "
            "choose strengths where config.selection='validation' and "
            "config.validation_per_class=0)."
        )
        return self._replace(validation=None, notes=(*self.notes, note))
