"""A small data set as TFDS stores large ones: JPEGs of many sizes, four classes, two splits."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.data.folders import quiet

CLASSES = 4
SPLITS = {"train": 20, "test": 7}
Encode = Callable[[int], bytes]


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Class c is a colour with noise; every fifth image is grey."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self, *, splits: Mapping[str, int], encode: Encode, withheld: str, **options: Any
    ) -> None:
        self._splits, self._encode, self._withheld = splits, encode, withheld
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split, n) for split, n in self._splits.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(count):
            label = -1 if split == self._withheld else i % CLASSES
            yield i, {"file_name": f"{split}{i}.JPEG", "image": self._encode(i), "label": label}


def jpeg(number: int, sizes: tuple[int, int] = (24, 72)) -> bytes:
    """Encodes image `number`, width and height drawn between the two sizes."""
    rng = np.random.default_rng(number)
    width, height = (int(x) for x in rng.integers(*sizes, 2))
    colour = np.eye(CLASSES, 3)[number % CLASSES] * 160 + 40
    pixels = colour + rng.normal(0, 20, (height, width, 3))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    (image.convert("L") if number % 5 == 4 else image).save(file, format="jpeg", quality=95)
    return file.getvalue()


def prepare(
    folder: Path,
    *,
    splits: Mapping[str, int] = SPLITS,
    encode: Encode = jpeg,
    withheld: str = "",
) -> Path:
    """Writes the data set "tiny_imagenet".

    Args:
      folder: of prepared data sets.
      splits: number of examples of each.
      encode: from the number of an example in its split to a file.
      withheld: the split whose labels are all -1.

    Returns:
      The folder of its files.
    """
    with quiet(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        builder = TinyImagenet(
            splits=splits,
            encode=encode,
            withheld=withheld,
            data_dir=folder,
            file_format="array_record",
        )
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_config=config)
    return folder / "tiny_imagenet" / "1.0.0"
