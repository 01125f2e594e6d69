"""Masks from the disk to the table: what a stream trains and scores is what memory does.

Streams of classes are in `test_imagenet.py`.
"""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_stored
import toys
from ml_collections import ConfigDict
from tiny_stored import png

from configs import common
from experiments import ConfigError, models, segment
from experiments.data.streams import Streams
from experiments.report import overlays

SIZE, TRAIN, TEST = (6, 8), 8, 11
LOSS = "cross_entropy | random_flip | scaled_crop(size=(5, 4), low=0.7, high=2.1, step=0.1)"


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setitem(models.MODELS, "pixelwise", toys.Pixelwise)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images whose pixels have a class by their brightness, some ignored."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data")
    image = rng.integers(0, 256, (TRAIN + TEST, *SIZE, 3)).astype(np.uint8)
    mask = image[..., 0] // 86
    mask[:, 0] = 255
    both = [
        {"image": png(x), "segmentation_label": png(y)} for x, y in zip(image, mask, strict=True)
    ]
    features = {
        "image": tfds.features.Image(shape=(*SIZE, 3)),
        "segmentation_label": tfds.features.LabeledImage(labels=3, shape=(*SIZE, 1)),
    }
    splits = {"train": both[:TRAIN], "test": both[TRAIN:]}
    tiny_stored.prepare(folder, features, splits)
    return folder


def config(folder, **changes):
    small = common.base()
    small.dataset, small.data_dir = "tiny_stored", str(folder)
    small.label_key, small.model, small.selection = "segmentation_label", "pixelwise", "test"
    small.data, small.batch_size, small.epochs, small.runs_at_once = "stream", TRAIN, 3, 1
    # A bias before BatchNorm has no gradient, and adam would take steps by its rounding.
    small.learning_rate, small.optimizer = 0.5, "sgd"
    small.losses = ConfigDict({"toy": LOSS})
    for name, value in changes.items():
        setattr(small, name, value)
    return small


def record(folder):
    (line,) = (folder / "runs.jsonl").read_text().splitlines()
    return json.loads(line)


@pytest.mark.slow
def test_a_stream_of_masks_trains_and_scores_as_memory_does(folder, tmp_path, monkeypatch):
    """A step sees all images, in another order, and draws by their numbers.

    As many images are scored together as a batch has.
    """
    read, test = [], Streams.test

    def reading(streams, rows, *share):
        read.append(rows)
        return test(streams, rows, *share)

    monkeypatch.setattr(Streams, "test", reading)
    paths = segment.compare(config(folder), tmp_path / "stream")
    assert read
    segment.compare(config(folder, data="memory"), tmp_path / "memory")
    ours, theirs = record(tmp_path / "stream"), record(tmp_path / "memory")
    assert ours["steps"] == theirs["steps"] == 3
    for name in ("train_loss", "test_miou", "test_accuracy"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)
    assert len(ours["test_iou"]) == 3
    assert "toy" in paths["table"].read_text()
    assert set(read) == {TRAIN, overlays.SHOWN}  # for the score and for the picture


def test_an_image_size_is_refused_before_anything_is_trained(folder, tmp_path):
    with pytest.raises(ValueError, match=r"has masks, and is streamed .*image_size=0, not 32"):
        segment.compare(config(folder, image_size=32), tmp_path)


def test_labels_of_images_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="name its masks, such as 'segmentation_label'"):
        segment.compare(config("", dataset="digits", label_key="label"), tmp_path)
