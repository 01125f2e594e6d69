"""Data sets of Hugging Face's package `datasets`: `config.dataset = "huggingface:PATH_OR_NAME"`."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import splitting
from experiments.data.dataset import DataError, MissingDataError
from experiments.data.items import Items, Opened, Options
from experiments.data.prepared import first_line


@dataclasses.dataclass(frozen=True, eq=False)
class Column:
    """The images of a split, as `items.Content`."""

    rows: Any
    key: str
    name: str

    def __getitem__(self, number: int) -> bytes:
        """The content of an image's file."""
        file = self.rows[number][self.key]
        return file["bytes"] or Path(file["path"]).read_bytes()

    def name_of(self, number: int) -> str:
        """The name of the split with the number of the row."""
        return f"{number} of {self.name}"


def open_huggingface(name: str, path: str, options: Options, label: str = "label") -> Opened:
    """Opens a data set of the package `datasets`.

    It has a split "train", and "test" and perhaps "validation", which is scored where there is no
    "test" or its labels are withheld, or else a share is scored; a column of images, and one of
    classes, of whole numbers or of texts.

    Args:
      name: of the data set.
      path: a folder that `save_to_disk` has written, or what `datasets.load_dataset` takes.
      options: with the key of the images, and how they are divided.
      label: the key of the classes.

    Raises:
      DataError: if the package is not there, or the data set is not such a one.
      MissingDataError: if there is no such data set.

    Example:
      `open_huggingface("huggingface:cifar10", "cifar10", Options(image="img"))`
    """
    rows = _loaded(path)
    named = splitting.named(repr(name), rows)
    if "train" not in named:
        raise DataError(f"{name!r} has the splits {_listed(rows)}, but no 'train'.")
    splits = {split: rows[given] for split, given in named.items()}
    for split, each in splits.items():
        _check(f"the {split} split of {name!r}", each, options.image, label)
    withheld = [s for s in splits if s != "train" and _is_withheld(splits[s], label)]
    used = {split: each for split, each in splits.items() if split not in withheld}
    class_names = _class_names(list(used.values()), label)
    items = {
        split: _items(f"the {split} split of {name!r}", each, options.image, label, class_names)
        for split, each in used.items()
    }
    notes = (
        *splitting.left_out("of its splits", set(rows) - set(named.values())),
        *splitting.left_out("as their labels are withheld", withheld),
    )
    return splitting.opened(name, items, class_names, options, notes)


def _loaded(path: str) -> dict[str, Any]:
    """The splits by name."""
    try:
        import datasets  # here, for it is optional
    except ImportError:
        raise DataError(
            "config.dataset='huggingface:...' needs the package 'datasets': "
            "pip install 'regjax[huggingface]'."
        ) from None
    folder = Path(path).expanduser()
    saved = (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists()
    datasets.disable_progress_bars()
    try:
        found = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(path)
    except Exception as error:  # of the package, of its file systems, of the network
        why = first_line(error)
        raise MissingDataError(
            f"The package 'datasets' cannot load {path!r} ({why}): name a folder that "
            "save_to_disk has written, or a data set that it can download."
        ) from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))


def _check(where: str, rows: Any, image: str, label: str) -> None:
    """Looks whether there is a column of images and one of classes."""
    from datasets import Image

    for key, entry in ((image, "image_key"), (label, "label_key")):
        if key not in rows.features:
            raise DataError(
                f"There is no {key!r} in {where}, which has {_listed(rows.features)}: name the "
                f"column in config.{entry}."
            )
    if not isinstance(rows.features[image], Image):
        raise DataError(f"The column {image!r} of {where} is not one of images.")
    if not len(rows):
        raise DataError(f"There are no examples in {where}.")


def _is_withheld(rows: Any, label: str) -> bool:
    """Whether the labels are not given: -1 stands for that."""
    withheld: bool = rows.select_columns(label)[0][label] == -1
    return withheld


def _class_names(splits: list[Any], label: str) -> tuple[str, ...]:
    """The names of the classes: the column's own, its texts, or numbers."""
    names = getattr(splits[0].features[label], "names", None)
    if names:
        return tuple(names)
    found = sorted({each for rows in splits for each in rows.unique(label)}, key=_order)
    if all(isinstance(each, str) for each in found):
        return tuple(found)
    if not all(type(each) is int and each >= 0 for each in found):
        raise DataError(
            f"The column {label!r} has {_listed(found[:5])}, but classes are numbered from 0, or "
            "texts."
        )
    return tuple(map(str, range(max(found) + 1)))


def _order(value: Any) -> tuple[str, Any]:
    return type(value).__name__, "" if value is None else value


def _items(where: str, rows: Any, image: str, label: str, class_names: tuple[str, ...]) -> Items:
    from datasets import Image

    given = rows.with_format(None)[label][:]
    if isinstance(given[0], str):
        numbers = {each: i for i, each in enumerate(class_names)}
        given = [numbers[each] for each in given]
    labels = np.array(given, np.int32)
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise DataError(
            f"The labels in {where} go from {labels.min()} to {labels.max()}, but must be from 0 "
            f"to {len(class_names) - 1}."
        )
    undecoded = rows.with_format(None).cast_column(image, Image(decode=False)).select_columns(image)
    return Items(Column(undecoded, image, where), np.arange(len(labels)), labels)
