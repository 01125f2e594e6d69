"""NumPy's archives of images and labels, or folders of arrays: `config.dataset = "npz:PATH"`."""

import dataclasses
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np

from experiments.data import splitting
from experiments.data.dataset import DataError, MissingDataError
from experiments.data.items import Items, Opened, Options
from experiments.data.prepared import first_line

Arrays = dict[str, np.ndarray]
BESIDE = ("class_names", "image_range", "train_source")


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The rows of an array of images, as `items.Content`."""

    image: np.ndarray
    name: str

    def __getitem__(self, number: int) -> np.ndarray:
        """A row."""
        return self.image[number]

    def name_of(self, number: int) -> str:
        """The name of the array with the number of the row."""
        return f"{number} of {self.name}"


def open_npz(name: str, path: str, options: Options, label: str = "label") -> Opened:
    """Opens an archive that `np.savez` has written, or a folder of the same arrays by `np.save`.

    It has arrays `train_image`, `train_label`, `test_image` and `test_label`, and perhaps
    `validation_image` and `validation_label` (or `val_...`), which are scored where `test_...` are
    missing; or `image` and `label`, of which a share is then scored. `class_names` may be there
    too. Images are uint8 [N, H, W, K] or [N, H, W], or floats in [0, 1] or in `image_range`, two
    numbers; labels are whole numbers from 0, one for each image. `train_source` says of which
    images of another data set those to train on are copies (`config.joined`). Of a folder,
    `train_image.npy` and so on, images are read when they are asked for.

    Args:
      name: of the data set.
      path: of the file or the folder.
      options: with the key of the images, and how they are divided.
      label: the key of the labels.

    Raises:
      MissingDataError: if there is no such file.
      DataError: if it cannot be read, or does not hold such arrays.

    Example:
      `np.savez("pets.npz", image=image, label=label)`, then `open_npz("npz:pets.npz", "pets.npz",
      Options())`
    """
    file = Path(path).expanduser()
    where = repr(str(file))
    found = _loaded(file)
    keys = options.image, label
    arrays = _arrays(where, found, keys)
    items = {split: _items(where, found, *pair) for split, pair in arrays.items()}
    class_names = tuple(map(str, np.ravel(found.get("class_names", ()))))
    names = _named(where, class_names, *items.values())
    used = {key for pair in arrays.values() for key in pair} | {*BESIDE}
    notes = splitting.left_out(f"of the arrays in {where}", set(found) - used)
    opened = splitting.opened(name, items, names, options, notes)
    source = _source(where, found, len(items["train"]))
    return opened._replace(bounds=_bounds(where, found), source=source)


def _arrays(where: str, found: Arrays, keys: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """The names of the images and of the labels, by split."""
    ends = tuple(f"_{key}" for key in keys)
    before = {name.removesuffix(end) for name in found for end in ends if name.endswith(end)}
    splits = splitting.named(f"The archive {where}", before)
    if "train" in splits:
        image, label = ends
        return {split: (name + image, name + label) for split, name in splits.items()}
    if not set(keys) & set(found):
        raise DataError(
            f"{where} has {_listed(found)}, but must have the arrays 'train{ends[0]}', "
            f"'train{ends[1]}', 'test{ends[0]}' and 'test{ends[1]}', or else {keys[0]!r} and "
            f"{keys[1]!r} (config.image_key and config.label_key name others)."
        )
    if splits:
        raise DataError(
            f"{where} has a {next(iter(splits))} split, but {keys[0]!r} and {keys[1]!r} of no "
            f"split: call them 'train{ends[0]}' and 'train{ends[1]}'."
        )
    return {"train": keys}


def _bounds(where: str, found: Arrays) -> tuple[float, float]:
    """Of floats."""
    given = np.ravel(found.get("image_range", (0.0, 1.0)))
    if given.size != 2 or given.dtype.kind not in "iuf" or not given[0] < given[1]:
        raise DataError(
            f"'image_range' in {where} must be the least and the largest value of images, such as "
            f"[-1, 2], but it is {given.tolist()}."
        )
    return float(given[0]), float(given[1])


def _source(where: str, found: Arrays, count: int) -> np.ndarray | None:
    """Of which images of another data set the training images are copies."""
    given = found.get("train_source")
    if given is not None and not (given.shape == (count,) and given.dtype.kind in "iu"):
        raise DataError(
            f"'train_source' in {where} must be whole numbers, one for each of {count} training "
            f"images, not {given.dtype} {list(given.shape)}."
        )
    return None if given is None else np.asarray(given, np.int64)


def _loaded(file: Path) -> Arrays:
    try:
        if file.is_dir():
            return {each.stem: _mapped(each) for each in sorted(file.glob("*.npy"))}
        if not is_zipfile(file) and file.exists():
            raise BadZipFile("it is no zip file")
        # NumPy does not close a file that it has opened itself and cannot read.
        with file.open("rb") as content, np.load(content, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise MissingDataError(
            f"There is no file {str(file)!r}: config.dataset='npz:PATH' names one that np.savez "
            "has written, or a folder of arrays."
        ) from None
    except Exception as error:  # zipfile, zlib and NumPy have their own; a size may be damaged
        why = first_line(error)
        if "pickle" in why:
            why = "it holds Python objects, which could run any program: save plain arrays"
        raise DataError(
            f"{str(file)!r} cannot be read as an archive that np.savez has written ({why})."
        ) from error


def _mapped(file: Path) -> np.ndarray:
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    # Only images are large, and what is read from the disk anew each time is slow.
    return array if array.ndim > 1 else np.array(array)


def _listed(found: Arrays) -> str:
    return "the arrays " + ", ".join(map(repr, found)) if found else "no arrays"


def _items(where: str, found: Arrays, image: str, label: str) -> Items:
    for key in (image, label):
        if key not in found:
            raise DataError(f"{where} has {_listed(found)}, but no {key!r}.")
    images, labels = _images(where, image, found[image]), found[label]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{label!r} in {where} must be whole numbers, one for each image, not {labels.dtype} "
            f"{list(labels.shape)}."
        )
    if len(labels) != len(images):
        raise DataError(
            f"{where} has {len(images)} images in {image!r}, but {len(labels)} labels in {label!r}."
        )
    if not len(labels):
        raise DataError(f"{image!r} in {where} has no images.")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise DataError(
            f"{label!r} in {where} goes from {labels.min()} to {labels.max()}, but classes are "
            "numbered from 0."
        )
    rows = Rows(images, f"{image!r} in {where}")
    return Items(rows, np.arange(len(images)), labels.astype(np.int32))


def _images(where: str, key: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]
    floats = images.dtype.kind == "f"
    if images.ndim != 4 or not (floats or images.dtype == np.uint8) or 0 in images.shape[1:]:
        raise DataError(
            f"{key!r} in {where} must be uint8 [N, H, W, K] or [N, H, W], or floats in [0, 1], not "
            f"{images.dtype} {list(images.shape)}."
        )
    if images.shape[3] > 4 and images.shape[1] in (1, 3):
        raise DataError(
            f"{key!r} in {where} is {list(images.shape)}, with its channels before height and "
            "width: store image.transpose(0, 2, 3, 1)."
        )
    whole = floats and not isinstance(images, np.memmap)
    return images.astype(np.float32) if whole else images


def _named(where: str, class_names: tuple[str, ...], *splits: Items) -> tuple[str, ...]:
    """The names of all classes; numbers where there are none."""
    most = max(int(split.label.max()) for split in splits)
    if class_names and most >= len(class_names):
        raise DataError(
            f"The labels in {where} go up to {most}, but 'class_names' names {len(class_names)} "
            f"classes, which are numbered from 0 to {len(class_names) - 1}."
        )
    names = class_names or tuple(map(str, range(most + 1)))
    if len(names) < 2:
        raise DataError(f"All labels in {where} are 0, but there must be at least two classes.")
    return names
