"""Whether the host reads images of ImageNet's size as fast as a training step takes them.

The images are smooth noise, JPEGs of 500 x 375 pixels and about 90 kB. `tables.py` shows the
table.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from experiments.benchmark.timing import random_task
from experiments.benchmark.training import Program
from experiments.data.folders import quiet
from experiments.data.streams import Streams, TrainIterator

CLASSES = 1000
OPTIMIZER = "add_decayed_weights(weight_decay=1e-4) | sgd(momentum=0.9)"
STEPS = 3
WINDOWS = 3


class Setting(NamedTuple):
    """A stream of crops, and the network that takes them.

    Attributes:
      examples: the number of images in the data set.
      pixels: the height and width of a crop.
      batch: the size of the stream's batches.
      seconds: the seconds that each of the timings lasts.
      workers: the numbers of processes that decode; 0 for threads.
      model: the network.
    """

    examples: int
    pixels: int
    batch: int
    seconds: float
    workers: tuple[int, ...]
    model: str


FULL = Setting(256, 224, 64, 4.0, tuple(sorted({0, 1, 2, os.cpu_count() or 1})), "resnet50")
QUICK = Setting(8, 16, 8, 0.1, (0, 1), "small_cnn")

TABLES = {
    "streams": (
        "JPEGs of 500 x 375 pixels decoded and cropped, images/s with so many worker processes (0: "
        "threads), while nothing else runs; and the need of a training step, images/s on this "
        "device",
        {"workers": "d", "images_per_second": ".0f", "model": "s", "pixels": "d"}
        | {"step_images_per_second": ".1f", "times_the_need": ".2f"},
    )
}


class SmoothNoise(tfds.core.GeneratorBasedBuilder):
    """Noise with twice the wavelength of the pixels, coded as JPEG; classes at random."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, examples: int, **options: Any) -> None:
        self._examples = examples
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {
            "train": self._generate_examples(self._examples),
            "test": self._generate_examples(1),
        }

    def _generate_examples(self, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(count):
            yield i, {"image": jpeg(i), "label": i % CLASSES}


def jpeg(number: int) -> bytes:
    """Encodes image `number`."""
    noise = np.random.default_rng(number).integers(0, 256, (188, 250, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, "jpeg")
    return file.getvalue()


def prepare(folder: Path, examples: int) -> None:
    """Writes the data set "smooth_noise"."""
    with quiet(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        builder = SmoothNoise(examples=examples, data_dir=folder, file_format="array_record")
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_config=config)


def costs(setting: Setting) -> dict[str, Any]:
    """A row for each number of workers: images/s, and how many times the step's need that is."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), setting.examples)
        rates = {
            workers: _images_per_second(setting, folder, workers)
            for workers in tqdm(setting.workers, desc="streams")
        }
    need = step_images_per_second(setting)
    rows = [
        {
            "workers": workers,
            "images_per_second": rate,
            "model": setting.model,
            "pixels": setting.pixels,
            "step_images_per_second": need,
            "times_the_need": rate / need,
        }
        for workers, rate in rates.items()
    ]
    return {"setting": setting._asdict(), "rows": rows}


def _images_per_second(setting: Setting, folder: str, workers: int) -> float:
    streams = Streams("smooth_noise", folder, image_size=setting.pixels, workers=workers)
    stream = streams.train(setting.batch, seed=0)
    try:
        # In the first one, processes start and what is read ahead is used up.
        rates = [_rate(stream, setting.seconds) for _ in range(1 + WINDOWS)]
    finally:
        stream.close()
    return statistics.median(rates[1:])


def _rate(stream: TrainIterator, seconds: float) -> float:
    """Images/s over that many seconds, or one batch if that takes longer."""
    start, images = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        images += len(next(stream)[1])
    return images / elapsed


def step_images_per_second(setting: Setting) -> float:
    """What a training step on batches that are on the device takes."""
    slow = jax.default_backend() == "cpu"
    batch = (4 if slow else 128) * jax.device_count()
    shape = (setting.pixels, setting.pixels, 3)
    dtype = jnp.float32 if slow else jnp.bfloat16
    task = random_task(setting.model, shape, classes=CLASSES, optimizer=OPTIMIZER, dtype=dtype)
    program = Program(task, batch, STEPS)
    program.one_by_one()
    return batch * STEPS / statistics.median(program.one_by_one() for _ in range(WINDOWS))
