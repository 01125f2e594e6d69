"""The embedded data set: scikit-learn's handwritten digits as a TFDS data set.

1,797 real 8x8 images, ten classes; prepared on first use, without TensorFlow or network.
"""

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.data.folders import data_folder, quiet

# scikit-learn keeps the order of the forms on which the digits were written: fourteen of about 130
# digits each. The last four are the test split, so that no form is in both.
TRAIN_EXAMPLES = 1287


class UnwritableFolderError(OSError):
    """The data folder does not let the digits be prepared in it."""


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits from scikit-learn (UCI, E. Alpaydin and C. Kaynak, 1998).

    Splits: 1,287 training and 510 test images, in scikit-learn's order; each class has 127 to 131
    of the first and 47 to 52 of the second. The pixels 0 to 16 are stored as
    `round(pixel * 255 / 16)`, so that all data sets share one range; no two values fall together.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # nothing to download
        return {
            "train": self._generate_examples(slice(None, TRAIN_EXAMPLES)),
            "test": self._generate_examples(slice(TRAIN_EXAMPLES, None)),
        }

    def _generate_examples(self, part: slice) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits  # here, for it takes longer than all else

        source = load_digits()
        pixels = np.round(source.images[part] * (255 / 16)).astype(np.uint8)
        for i, (image, label) in enumerate(zip(pixels, source.target[part], strict=True)):
            # TFDS encodes an array with TensorFlow, but a Pillow image with Pillow.
            yield i, {"image": Image.fromarray(image), "label": int(label)}


def prepare(data_dir: str | os.PathLike[str] | None = None) -> None:
    """Prepares the digits in the data folder, unless they are there.

    Safe against interruption and against other processes that do the same: TFDS writes to a folder
    of a random name and renames it when all is written.

    Args:
      data_dir: the folder; by default TFDS's own.

    Raises:
      UnwritableFolderError: if the folder cannot be written.

    Example:
      `digits.prepare("data")` writes `data/digits/1.0.0`.
    """
    folder = data_folder(data_dir)
    final = folder / "digits" / str(Digits.VERSION)
    if os.path.isdir(final):
        return
    try:
        _build(folder)
    except OSError as error:
        # Renaming onto a full folder fails: then another process was first, and all is well.
        if not os.path.isdir(final):
            raise UnwritableFolderError(
                f"Cannot prepare the digits in {folder} ({error.strerror or error}): name a folder "
                "that can be written with data_dir or the environment variable TFDS_DATA_DIR."
            ) from error


def _build(folder: os.PathLike[str]) -> None:
    # TFDS announces the work with print and with progress bars, longer than the work itself.
    with quiet(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        builder = Digits(data_dir=folder, file_format="array_record")
        config = tfds.download.DownloadConfig(try_download_gcs=False)  # never ask the network
        builder.download_and_prepare(download_config=config)
