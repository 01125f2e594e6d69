"""A small "cifar10_corrupted" as TFDS stores it: a data set for each corruption and severity."""

from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from experiments.data.folders import quiet

with registered.skip_registration():

    class Cifar10Corrupted(tfds.core.GeneratorBasedBuilder):
        """A test split alone."""

        VERSION = tfds.core.Version("1.0.0")

        def __init__(self, *, image: np.ndarray, label: np.ndarray, classes: int, **options: Any):
            self._image, self._label, self._classes = image, label, classes
            super().__init__(**options)

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=self._image.shape[1:], encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=self._classes),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return {"test": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            for i, (image, label) in enumerate(zip(self._image, self._label, strict=True)):
                yield i, {"image": _png(image), "label": int(label)}


def _png(image: np.ndarray) -> bytes:
    file = BytesIO()
    # Without TensorFlow only files can be written, not arrays.
    Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(file, format="png")
    return file.getvalue()


def prepare(folder: Path, name: str, image: np.ndarray, label: np.ndarray, classes: int) -> None:
    """Writes a data set.

    Args:
      folder: of prepared data sets.
      name: such as "fog_1".
      image: uint8 `[N, H, W, K]`.
      label: `[N]`.
      classes: how many.
    """
    with quiet(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        builder = Cifar10Corrupted(
            image=image,
            label=label,
            classes=classes,
            config=tfds.core.BuilderConfig(name=name, version="1.0.0"),
            data_dir=folder,
            file_format="array_record",
        )
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_config=config)
