"""Whole data sets in memory: prepared TFDS folders, without TensorFlow, and registered ones."""

import os
from typing import NamedTuple

import numpy as np

from experiments.data import arrays, kinds, reading
from experiments.data.dataset import (
    DATASETS,
    DataError,
    Dataset,
    MissingDataError,
    Split,
    check_split,
    register,
)
from experiments.data.folders import data_folder
from experiments.data.items import Options
from experiments.data.prepared import (
    explained,
    has_own_validation,
    open_builder,
    require,
    scored_split,
)

__all__ = [
    "DATASETS",
    "STORED",
    "DataError",
    "Dataset",
    "Description",
    "MissingDataError",
    "Options",
    "Split",
    "describe_test",
    "load",
    "load_test",
    "register",
]

# What TFDS's "cifar10_corrupted" calls corruptions for which regjax has another name.
STORED = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}

Folder = str | os.PathLike[str] | None
USUAL = Options()


class Description(NamedTuple):
    """What is known of a data set without its images.

    Attributes:
      shape: the shape of an image, (H, W, K).
      classes: the number of classes.
      class_names: a name for each class.
    """

    shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...]


def load(
    name: str,
    data_dir: Folder = None,
    image_size: int | None = None,
    label: str = "label",
    options: Options = USUAL,
    validation: bool = False,
) -> Dataset:
    """Reads a data set's training split and the one to score whole.

    What is scored is the test split, or else, where it is missing or its labels are withheld, the
    validation split.

    Args:
      name: of a registered data set, or of a prepared TFDS data set in array_record format, such
        as "mnist", with or without a builder in TFDS; "digits" is embedded and prepared on first
        use.
      data_dir: the folder of prepared data sets; by default TFDS's own (`TFDS_DATA_DIR` or
        `~/tensorflow_datasets`).
      image_size: height and width of the images: of each the centre, 224/256 of the shorter side,
        is resized to it, as of a stream's test images. A data set that is stored in that size is
        read as it is, and so is every one by default, or for 0.
      label: the feature to learn: a class, such as "label" or CIFAR-100's "coarse_label", or a mask
        of classes, such as "segmentation_label". A registered data set has chosen itself.
      options: which images are read, and how.
      validation: whether to read the validation split too, where there is one besides the test
        split that is scored.

    Returns:
      The data set, its examples in the order in which they are stored.

    Raises:
      MissingDataError: if it is not there; says how to prepare it.
      DataError: if it cannot be read or is not of labelled images, uint8 or floats in [0, 1], of
        one size.
      ValueError: if the image size is negative.
      digits.UnwritableFolderError: if the digits cannot be prepared in the folder.

    Example:
      `load("digits").train["image"].shape == (1287, 8, 8, 1)`
    """
    folder, size = data_folder(data_dir), _checked(image_size)
    if name in DATASETS:
        return _registered(name, data_dir, size)
    if kinds.kind_of(name):
        found = reading.whole(kinds.open_items(name, options, label, validation), size, options)
        _check_shapes(found)
        return found
    with explained(name, folder):
        builder = open_builder(name, folder)
        require(builder, "train")
        arrays.check_features(builder, label, options.image)
        scored = scored_split(builder, label)
        own = validation and has_own_validation(builder, label)
        splits = ("train", scored, *(["validation"] if own else []))
        train, test, *rest = (arrays.read(builder, each, label, size, options) for each in splits)
        names, held_out = arrays.class_names(builder, label), rest[0] if rest else None
    found = Dataset(name, train, test, len(names), names, scored, validation=held_out)
    _check_shapes(found)
    return found


def load_test(
    name: str,
    data_dir: Folder = None,
    image_size: int | None = None,
    label: str = "label",
    options: Options = USUAL,
) -> Split:
    """Reads the split to score alone; arguments and errors as in `load`.

    Where a folder, an archive or one of Hugging Face has no such split, all its images are read.

    Example:
      `load_test("cifar10_corrupted/fog_3")`
    """
    folder, size = data_folder(data_dir), _checked(image_size)
    if name in DATASETS:
        return _registered(name, data_dir, size).test
    if kinds.kind_of(name):
        return _all_to_score(name, size, label, options).test
    with explained(name, folder):
        builder = open_builder(name, folder)
        arrays.check_features(builder, label, options.image)
        return arrays.read(builder, scored_split(builder, label), label, size, options)


def describe_test(
    name: str,
    data_dir: Folder = None,
    image_size: int | None = None,
    label: str = "label",
    options: Options = USUAL,
) -> Description:
    """Describes what `load_test` reads; arguments and errors as there.

    Example:
      `describe_test("digits").shape == (8, 8, 1)`
    """
    folder, size = data_folder(data_dir), _checked(image_size)
    if name in DATASETS or kinds.kind_of(name):
        if name in DATASETS:
            found = _registered(name, data_dir, size)
        else:
            found = _all_to_score(name, size, label, options)
        return Description(found.test["image"].shape[1:], found.classes, found.class_names)
    with explained(name, folder):
        builder = open_builder(name, folder)
        arrays.check_features(builder, label, options.image)
        scored = scored_split(builder, label)
        names = arrays.class_names(builder, label)
        shape = arrays.shape(builder, scored, size, options.image)
        return Description(shape, len(names), names)


def _all_to_score(name: str, size: int, label: str, options: Options) -> Dataset:
    """A data set without its training images."""
    opened = kinds.open_items(name, options._replace(test_share=1.0), label)
    return reading.whole(opened._replace(train=opened.train.take(np.arange(0))), size, options)


def _checked(image_size: int | None) -> int:
    if (image_size or 0) < 0:
        raise ValueError(f"An image size must not be negative, but is {image_size}.")
    return image_size or 0


def _registered(name: str, data_dir: Folder, image_size: int) -> Dataset:
    found = DATASETS[name](data_folder(data_dir), image_size)
    own = [] if found.validation is None else [("validation", found.validation)]
    for split, part in [("train", found.train), (found.scored, found.test), *own]:
        check_split(f"the {split} split of {name!r}", part, found.classes)
    _check_shapes(found)
    return found


def _check_shapes(found: Dataset) -> None:
    """Raises DataError unless all splits are of images of one shape."""
    ours = list(found.train["image"].shape[1:])
    splits = {"those to score": found.test, "those of its validation split": found.validation}
    for those, split in splits.items():
        theirs = ours if split is None else list(split["image"].shape[1:])
        if theirs != ours:
            raise DataError(
                f"The images of {found.name!r} to train on are {ours}, but {those} {theirs}: name "
                "one size in config.image_size."
            )
