"""What stands before the colon of `config.dataset`, for data sets of other forms than TFDS's."""

from experiments.data.cityscapes import open_cityscapes
from experiments.data.huggingface import open_huggingface
from experiments.data.image_folders import open_folder
from experiments.data.items import Opened, Options
from experiments.data.npz import open_npz

KINDS = ("folder", "npz", "huggingface", "cityscapes")


def kind_of(name: str) -> str:
    """The kind of a data set, or "" for one of TFDS or a registered one.

    Example:
      `kind_of("folder:~/pets") == "folder"`
    """
    kind, colon, _ = name.partition(":")
    return kind if colon and kind in KINDS else ""


def open_items(name: str, options: Options, label: str, validation: bool = False) -> Opened:
    """Opens a data set of such a kind.

    Args:
      name: with its kind, such as "folder:~/pets".
      options: how it is read.
      label: the key of the classes, where there are keys.
      validation: whether its validation split is wanted, where there is one besides the test split.

    Raises:
      MissingDataError: if it is not there.
      DataError: if it is not such a one.

    Example:
      `open_items("folder:~/pets", Options(), "label")`
    """
    kind, _, path = name.partition(":")
    if kind == "folder":
        opened = open_folder(name, path, options)
    elif kind == "cityscapes":
        opened = open_cityscapes(name, path)
    else:
        opened = (open_npz if kind == "npz" else open_huggingface)(name, path, options, label)
    return opened if validation else opened.without_validation()
