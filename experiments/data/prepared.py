"""Prepared TFDS folders: how one is opened, what is scored, and what is said when it cannot be."""

import difflib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.read_only_builder import builder_from_files

from experiments.data import digits, masks
from experiments.data.dataset import DATASETS, IGNORED, DataError, MissingDataError
from experiments.data.folders import quiet

_LONGEST = 300  # zipfile's words hold the file's content
_NAME = re.compile(r"(\w+)(/[\w.-]+)?(:[\d.]+)?")  # name[/config][:version], as TFDS has it


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
    """The beginning of what an error says, in one line and without a full stop."""
    return ((str(error).splitlines() or [""])[0][:_LONGEST] or type(error).__name__).rstrip(".")


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


def scored_split(builder: tfds.core.DatasetBuilder, label: str = "label") -> str:
    """The split that is scored: "test", or else "validation".

    A test split whose labels are withheld, as in "imagenet2012", does not count.

    Args:
      builder: of the opened data set, inside `explained`.
      label: the feature that is learnt.

    Raises:
      DataError: if there is no such split, or one without examples.
    """
    where, splits = f"The data set in {builder.data_path}", builder.info.splits
    found = [split for split in ("test", "validation") if split in splits]
    if not found:
        raise DataError(f"{where} has no test and no validation split.")
    for split in found:
        require(builder, split)
        if _is_labelled(builder, split, label):
            return split
    raise DataError(
        f"The test labels of the data set in {builder.data_path} are withheld, and it has no "
        "validation split."
    )


def has_own_validation(builder: tfds.core.DatasetBuilder, label: str = "label") -> bool:
    """Whether there is a validation split with labelled examples, besides the one to score."""
    splits = builder.info.splits
    if scored_split(builder, label) == "validation" or "validation" not in splits:
        return False
    return bool(splits["validation"].num_examples) and _is_labelled(builder, "validation", label)


def require(builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Looks whether a split is there.

    Raises:
      DataError: if it is not, or has no examples.
      FileNotFoundError: if one of its files is not there.
    """
    info, where = builder.info, f"The data set in {builder.data_path}"
    if split not in info.splits:
        raise DataError(f"{where} has no {split} split.")
    if not info.splits[split].num_examples:
        raise DataError(f"{where} has no examples in its {split} split.")
    if absent := [path for path in info.splits[split].filepaths if not path.exists()]:
        raise FileNotFoundError(f"the file {absent[0].name} is missing")


def _is_labelled(builder: tfds.core.DatasetBuilder, split: str, label: str) -> bool:
    """Whether the classes are there: TFDS gives -1 to those that are withheld.

    In Cityscapes, masks that are withheld hold ignored numbers alone.
    """
    features, dense = builder.info.features, masks.of_feature(builder, label)
    if (dense is None or dense.table is None) and not has_classes(builder, label):
        return True
    source = builder.as_data_source(split=split, decoders=undecoded(features))
    first = source.__getitems__([0])[0][label]
    return bool(first >= 0 if dense is None else np.any(dense.decoded(first) != IGNORED))


def has_classes(builder: tfds.core.DatasetBuilder, label: str) -> bool:
    """Whether a feature is there, and one class of each image."""
    features = builder.info.features
    feature = dict(features.items()).get(label)
    return isinstance(feature, tfds.features.ClassLabel) and bool(feature.num_classes)


def undecoded(features: tfds.features.FeaturesDict) -> dict[str, Any]:
    """TFDS's decoders by which the files of uint8 images are left as they are."""
    images = [
        name
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8
    ]  # (.dtype imports TensorFlow)
    return dict.fromkeys(images, tfds.decode.SkipDecoding())


def _missing(name: str, folder: Path, why: str) -> MissingDataError:
    remedy = _remedy(name, folder)
    others = "".join(f", or {other!r}, which is registered" for other in sorted(DATASETS))
    return MissingDataError(
        f"No data set {name!r} in {folder}{why}: {remedy}, or use the embedded 'digits'{others}."
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
        close = difflib.get_close_matches(name, [*DATASETS, "digits", *known], n=1)
        hint = f"; is it {close[0]!r}?" if close else ""
        return (
            f"copy it there (TFDS has no data set of that name{hint}), as a folder NAME/VERSION in "
            "array_record format with the features 'image' and 'label', or name images of your own "
            "by config.dataset='folder:PATH' (a folder of images for each class) or 'npz:PATH' "
            "(arrays 'image' and 'label')"
        )
    # Not `tfds build`: that needs Apache Beam, which the extra does not install.
    code = (
        "import tensorflow_datasets as t; "
        f't.builder("{name}", data_dir={_quoted(folder)}, file_format="array_record")'
        ".download_and_prepare()"
    )
    # By its path: the virtual environment that runs this need not be activated in the shell.
    python = shlex.quote(sys.executable)
    install = f"{python} -m pip install 'regjax[prepare]'"
    return f"prepare it with `{install}` and `{python} -c {shlex.quote(code)}`"


def _quoted(folder: Path) -> str:
    """A folder as Python reads it, in the quotes that the shell's leave alone."""
    return json.dumps(str(folder), ensure_ascii=False)
