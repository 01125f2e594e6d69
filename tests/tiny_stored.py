"""A small data set of any features, as TFDS stores it: named "tiny_stored", or as another is."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from experiments.data.folders import quiet

Example = Mapping[str, Any]

with registered.skip_registration():

    class TinyStored(tfds.core.GeneratorBasedBuilder):
        """What it is told."""

        VERSION = tfds.core.Version("1.0.0")

        def __init__(
            self,
            *,
            features: Mapping[str, Any],
            splits: Mapping[str, Sequence[Example]],
            **options: Any,
        ) -> None:
            self._features, self._splits = features, splits
            super().__init__(**options)

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(dict(self._features))
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager
            return {name: self._generate_examples(each) for name, each in self._splits.items()}

        def _generate_examples(self, examples: Sequence[Example]) -> Iterator[tuple[int, Example]]:
            yield from enumerate(examples)

    class Cityscapes(TinyStored):
        """The same under a name that is known, with TFDS's config of that name."""

        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="semantic_segmentation")]  # noqa: RUF012


def png(image: np.ndarray) -> bytes:
    """Encodes uint8 `[H, W]` or `[H, W, K]`."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="png")
    return file.getvalue()


def prepare(
    folder: Path,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[Example]],
    kind: type[TinyStored] = TinyStored,
) -> Path:
    """Writes the data set.

    Args:
      folder: of prepared data sets.
      features: TFDS's, by name.
      splits: the examples of each; uint8 images as files.
      kind: whose name it has.

    Returns:
      The folder of its files.
    """
    with quiet(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        builder = kind(
            features=features, splits=splits, data_dir=folder, file_format="array_record"
        )
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_config=config)
    return Path(builder.data_path)
