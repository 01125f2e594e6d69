"""What a data set in memory is, and the data sets that are added from outside."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

IGNORED = 255  # the label of a pixel that counts for nothing

Split = dict[str, np.ndarray]


class MissingDataError(FileNotFoundError):
    """No such data set in the data folder."""


class DataError(ValueError):
    """The data set is there, but damaged, or not of labelled images that can be trained on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """Training examples of another data set that are trained on too, each once an epoch.

    Attributes:
      name: the name of that data set.
      rows: their places in the training split.
      source: which training examples they are copies of, int [N], each with as many copies; None
        where they are copies of none and come with any.
      seed: the seed whose runs alone see them; None for all.
    """

    name: str
    rows: range
    source: np.ndarray | None = None
    seed: int | None = None

    @functools.cached_property
    def times(self) -> int:
        """The number of copies of each."""
        return 0 if self.source is None else int(np.bincount(self.source).max())

    def count(self, examples: int) -> int:
        """How many come with so many training examples."""
        return len(self.rows) if self.source is None else self.times * examples

    def beside(self, train: np.ndarray) -> np.ndarray:
        """Those that come with the training examples `train`, int32.

        Raises:
          DataError: if one of these has no copy.
        """
        rows = np.asarray(self.rows, np.int32)
        if self.source is None:
            return rows
        if missing := len(np.setdiff1d(train, self.source)):
            raise DataError(
                f"{self.name!r} has no copies of {missing} of {len(train)} images that are trained "
                "on: it was made of other images, as those of another seed or size are; name one "
                "for each seed by '{seed}', or copy all training images (experiments.sign --all)."
            )
        return rows[np.isin(self.source, train)]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that is whole in memory.

    A split is a dict of arrays with one row an example: `image`, uint8 [N, H, W, K] or float32 in
    [0, 1] or the range that its archive states, and `label`, int32 [N], or uint8 [N, H, W] where
    every pixel has a class, 255 for ignored ones.

    Attributes:
      name: the name of the data set.
      train: the training split.
      test: the split to score.
      classes: the number of classes, labelled from 0.
      class_names: a name for each class; by default "0", "1", ...
      scored: the name of the split that `test` is, "test" or "validation".
      parts: the ranges of training examples that come from one data set each, for a mixture has
        several; by default all of them.
      about: lines about what was found, to be shown before anything is trained.
      validation: the validation split, where strengths are to be chosen by one of its own.
      source: of which images of another data set the training examples are copies, int [N].
      joined: the training examples of other data sets, which stand behind those of the parts.
    """

    name: str
    train: Split
    test: Split
    classes: int
    class_names: tuple[str, ...] = ()
    scored: str = "test"
    parts: tuple[range, ...] = ()
    about: str = ""
    validation: Split | None = None
    source: np.ndarray | None = None
    joined: tuple[Joined, ...] = ()

    def __post_init__(self) -> None:
        names = self.class_names or tuple(map(str, range(self.classes)))
        object.__setattr__(self, "class_names", names)
        examples = len(next(iter(self.train.values()), ()))
        object.__setattr__(self, "parts", self.parts or (range(examples),))


Reader = Callable[[Path, int], Dataset]

DATASETS: dict[str, Reader] = {}


def register(name: str) -> Callable[[Reader], Reader]:
    """Adds a data set, which `config.dataset` can then name: a decorator of what reads it.

    Args:
      name: of the data set; it goes before a prepared one of that name.

    Returns:
      A decorator of a function from the data folder and the image size (0: as it is stored) to the
      data set. It returns the function.

    Raises:
      ValueError: if another module has registered the name.

    Example:
      `@register("stripes")` above `def stripes(data_dir: Path, image_size: int) -> Dataset`
    """

    def add(reader: Reader) -> Reader:
        if name in DATASETS and DATASETS[name].__module__ != reader.__module__:
            raise ValueError(
                f"A data set named {name!r} exists already in {DATASETS[name].__module__}: choose "
                "another name, since configs find data sets by name."
            )
        DATASETS[name] = reader
        return reader

    return add


def check_split(
    where: str, split: Split, classes: int, bounds: tuple[float, float] = (0.0, 1.0)
) -> None:
    """Looks whether images and labels are such as can be trained on.

    Args:
      where: what the split is called in an error, such as "the train split of 'digits'".
      split: as in `Dataset`.
      classes: the number of classes.
      bounds: of floats.

    Raises:
      DataError: if they are not, in one sentence.
    """
    if missing := {"image", "label"} - set(split):
        raise DataError(f"There is no {' and no '.join(sorted(missing))} in {where}.")
    image, label = split["image"], split["label"]
    if image.ndim != 4 or image.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"The images in {where} must be uint8 or float32 [N, H, W, K], not {image.dtype} "
            f"{list(image.shape)}."
        )
    if label.shape not in (image.shape[:1], image.shape[:3]) or label.dtype.kind not in "iu":
        raise DataError(
            f"The labels in {where} must be whole numbers, one for each of the images "
            f"{list(image.shape)} or of their pixels, not {label.dtype} {list(label.shape)}."
        )
    if not len(image):
        raise DataError(f"There are no examples in {where}.")
    low, high = bounds
    if image.dtype == np.float32 and not (
        image.min() >= low and image.max() <= high
    ):  # NaN neither
        raise DataError(
            f"The images in {where} go from {image.min():g} to {image.max():g}, but floats must be "
            f"in [{low:g}, {high:g}]."
        )
    _check_labels(where, label, classes)


def _check_labels(where: str, label: np.ndarray, classes: int) -> None:
    counted = label[label != IGNORED] if label.ndim > 1 else label
    if not counted.size:
        raise DataError(
            f"All pixels of the masks in {where} are {IGNORED}, which is ignored, so that there is "
            "nothing to learn or to score: look at how the masks are encoded."
        )
    if counted.min() < 0 or counted.max() >= classes:
        pixels = f", or {IGNORED} where a pixel is ignored" if label.ndim > 1 else ""
        raise DataError(
            f"The labels in {where} go from {counted.min()} to {counted.max()}, but must be from "
            f"0 to {classes - 1}{pixels}."
        )


def check_classes(name: str, label: np.ndarray, class_names: Sequence[str]) -> None:
    """Looks whether every class has training images.

    Args:
      name: of the data set.
      label: of the training images, int [N].
      class_names: a name for each class.

    Raises:
      DataError: if one has none.
    """
    counts = np.bincount(label, minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if empty:
        which = ", ".join(map(repr, empty[:5])) + (", ..." if len(empty) > 5 else "")
        noun = "The class" if len(empty) == 1 else "The classes"
        raise DataError(
            f"{noun} {which} of {name!r} {'has' if len(empty) == 1 else 'have'} no training "
            "images: add some, or take the class out of the data set."
        )


def check_one_size(where: str, sizes: Collection[tuple[int, int]]) -> None:
    """Looks whether images are all of one size, as they must be where none is named.

    Args:
      where: as in `check_split`.
      sizes: the heights and widths that there are.

    Raises:
      DataError: if they are not.
    """
    if len(sizes) > 1:
        several = " and ".join(f"{height} x {width}" for height, width in (min(sizes), max(sizes)))
        raise DataError(
            f"The images in {where} are of different sizes, such as {several}: name one in "
            "config.image_size, to which they are cropped and resized (config.resize)."
        )
