"""Whole data sets in memory, from prepared TFDS folders and without TensorFlow."""

import difflib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.read_only_builder import builder_from_files

from experiments.data import digits
from experiments.data.folders import data_folder, quiet

# What TFDS's "cifar10_corrupted" calls corruptions for which regjax has another name.
STORED = {"glass_blur": "frosted_glass_blur", "elastic_transform": "elastic"}

_NAME = re.compile(r"(\w+)(/[\w.-]+)?(:[\d.]+)?")  # name[/config][:version], as TFDS has it


class Split(NamedTuple):
    """Labelled images: `image` uint8 [N,H,W,K], `label` int32 [N]."""

    image: np.ndarray
    label: np.ndarray


class Dataset(NamedTuple):
    """A data set: its name, its two splits, and the number of classes, labelled from 0."""

    name: str
    train: Split
    test: Split
    classes: int


class MissingDataError(FileNotFoundError):
    """No such data set in the data folder."""


class DataError(ValueError):
    """The data set is there, but damaged, or not of labelled uint8 images of one size."""


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Reads a data set's training and test split whole.

    Args:
      name: of a prepared TFDS data set in array_record format, such as "mnist", with or without a
        builder in TFDS; "digits" is embedded and prepared on first use.
      data_dir: the folder of prepared data sets; by default TFDS's own (`TFDS_DATA_DIR` or
        `~/tensorflow_datasets`).

    Returns:
      The data set, its examples in the order in which they are stored.

    Raises:
      MissingDataError: if it is not there; says how to prepare it.
      DataError: if it cannot be read or is not of labelled uint8 images of one size.
      digits.UnwritableFolderError: if the digits cannot be prepared in the folder.

    Example:
      `load("digits").train.image.shape == (1287, 8, 8, 1)`
    """
    folder = data_folder(data_dir)
    with explained(name, folder):
        return _read(name, folder)


def load_test(name: str, data_dir: str | os.PathLike[str] | None = None) -> Split:
    """Reads the test split alone; arguments and errors as in `load`.

    Example:
      `load_test("cifar10_corrupted/fog_3")`
    """
    folder = data_folder(data_dir)
    with explained(name, folder):
        return _read_split(_with_test(name, folder), "test")


def describe_test(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> tuple[tuple[int, ...], int]:
    """The shape of the images that `load_test` reads, and the number of classes; errors as there.

    Example:
      `describe_test("digits") == ((8, 8, 1), 10)`
    """
    folder = data_folder(data_dir)
    with explained(name, folder):
        features = _with_test(name, folder).info.features
    return tuple(features["image"].shape), features["label"].num_classes


def _with_test(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    builder = open_builder(name, folder)
    _check(builder.info, f"The data set in {builder.data_path}", {"test"})
    return builder


@contextmanager
def explained(name: str, folder: Path) -> Iterator[None]:
    """Holds TFDS's log back, and says in one sentence why a data set cannot be read.

    Raises:
      MissingDataError: if it is not there, in place of TFDS's own error.
      DataError: in place of any other.
    """
    try:
        with quiet():
            yield
    except (DataError, MissingDataError, digits.UnwritableFolderError, ImportError, MemoryError):
        raise
    except tfds.core.DatasetNotFoundError:
        if name == "digits":
            raise unreadable(name, folder, "its folder is incomplete") from None
        why = " (its folder is incomplete, or the name has no config or a wrong version)"
        raise _missing(name, folder, why) from None
    except Exception as error:  # array_record, Pillow, json and protobuf have their own
        raise unreadable(name, folder, first_line(error)) from error


def first_line(error: Exception) -> str:
    """What an error says, in one line and without a full stop."""
    return ((str(error).splitlines() or [""])[0] or type(error).__name__).rstrip(".")


def open_builder(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set, inside `explained`, which says what is wrong with it."""
    if name == "digits":
        digits.prepare(folder)
    match = _NAME.fullmatch(name)
    if not match or not os.path.isdir(folder / match[1]):
        raise _missing(name, folder, "")
    # From the files alone, whether or not TFDS has code for the name: one path for all.
    builder = builder_from_files(name, data_dir=folder)
    info = builder.info
    if tfds.core.FileFormat.ARRAY_RECORD not in info.available_file_formats():
        raise ValueError(f"its files are {info.file_format.value}, not array_record")
    return builder


def _read(name: str, folder: Path) -> Dataset:
    builder = open_builder(name, folder)
    _check(builder.info, f"The data set in {builder.data_path}", {"train", "test"})
    train, test = (_read_split(builder, split) for split in ("train", "test"))
    return Dataset(name, train, test, builder.info.features["label"].num_classes)


def _check(info: tfds.core.DatasetInfo, where: str, splits: set[str]) -> None:
    if missing := splits - set(info.splits):
        raise DataError(f"{where} has no {' and no '.join(sorted(missing))} split.")
    if not is_classification(info.features) or None in info.features["image"].shape:
        raise DataError(
            f"{where} does not have a uint8 'image' of fixed size and a class 'label', but "
            f"{' '.join(repr(info.features).split())}."
        )


def is_classification(features: tfds.features.FeaturesDict) -> bool:
    """Whether a data set has a uint8 'image', of any size, and a class 'label'."""
    if not {"image", "label"} <= set(features):
        return False
    image, label = features["image"], features["label"]
    return (
        isinstance(image, tfds.features.Image)
        and image.np_dtype == np.uint8  # (.dtype imports TensorFlow)
        and isinstance(label, tfds.features.ClassLabel)
    )


def _read_split(builder: tfds.core.DatasetBuilder, split: str) -> Split:
    source = builder.as_data_source(split=split)
    # All at once: item by item takes four times as long.
    examples = source.__getitems__(range(len(source)))
    image = np.stack([example["image"] for example in examples])
    label = np.array([example["label"] for example in examples], np.int32)
    classes = builder.info.features["label"].num_classes
    if label.min() < 0 or label.max() >= classes:
        raise DataError(
            f"The {split} labels in {builder.data_path} go from {label.min()} to {label.max()}, "
            f"but must be from 0 to {classes - 1}."
        )
    return Split(image, label)


def _missing(name: str, folder: Path, why: str) -> MissingDataError:
    remedy = _remedy(name, folder)
    return MissingDataError(
        f"No data set {name!r} in {folder}{why}: {remedy}, or use the embedded 'digits'."
    )


def unreadable(name: str, folder: Path, reason: str) -> DataError:
    """The error of a data set that is there but cannot be read."""
    return DataError(
        f"The data set {name!r} in {folder} cannot be read ({reason}): delete its folder and "
        f"{_remedy(name, folder)}."
    )


def _remedy(name: str, folder: Path) -> str:
    if name == "digits":
        return "load it again"
    known = tfds.list_builders(with_community_datasets=False)
    match = _NAME.fullmatch(name)
    if not match or match[1] not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; is it {close[0]!r}?" if close else ""
        return f"copy it there (TFDS has no data set of that name{hint})"
    # Not `tfds build`: that needs Apache Beam, which the extra does not install.
    code = (
        "import tensorflow_datasets as t; "
        f't.builder("{name}", data_dir="{folder}", file_format="array_record")'
        ".download_and_prepare()"
    )
    # By its path: the virtual environment that runs this need not be activated in the shell.
    python = shlex.quote(sys.executable)
    install = f"{python} -m pip install 'regjax[prepare]'"
    return f"prepare it with `{install}` and `{python} -c {shlex.quote(code)}`"
