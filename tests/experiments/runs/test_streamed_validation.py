"""Validation splits of streams, from the files to the table."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_stored
import toys
from ml_collections import ConfigDict

from configs import common
from experiments import ConfigError, classify, models

SIZE = 8
NAMES = ("dark", "light")
# In the validation split the test images have the other's label.
LABELS = {"train": [0, 1] * 8 + [0] * 8, "test": [0, 0, 0, 0, 1], "validation": [1, 1, 1, 1, 0]}


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setitem(models.MODELS, "tiny", toys.Tiny)


def images(split):
    """PNGs, of which those to test and to validate on are the same ones."""
    generator = np.random.default_rng(split == "train")
    noise = generator.integers(0, 256, (len(LABELS[split]), SIZE, SIZE, 3))
    return [tiny_stored.png(image) for image in noise.astype(np.uint8)]


def in_folders(root, splits):
    for split in splits:
        for i, (image, label) in enumerate(zip(images(split), LABELS[split], strict=True)):
            path = root / {"validation": "val"}.get(split, split) / NAMES[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
    return {"dataset": f"folder:{root}"}


def in_tfds(root, splits):
    features = {
        "image": tfds.features.Image(shape=(SIZE, SIZE, 3)),
        "label": tfds.features.ClassLabel(names=NAMES),
    }
    examples = {
        split: [
            {"image": io.BytesIO(image), "label": label}
            for image, label in zip(images(split), LABELS[split], strict=True)
        ]
        for split in splits
    }
    tiny_stored.prepare(root, features, examples)
    return {"dataset": "tiny_stored", "data_dir": str(root)}


def config(**changes):
    small = common.base()
    small.data, small.model, small.image_size, small.resize = "stream", "tiny", SIZE, "whole"
    small.epochs, small.batch_size, small.learning_rate = 2, 8, 0.01
    small.class_weights = "balanced"
    small.losses = ConfigDict({"l2": "cross_entropy | l2(weight={strength})"})
    small.strengths = ConfigDict({"l2": (0.001, 0.1)})
    for name, value in changes.items():
        setattr(small, name, value)
    return small


@pytest.mark.slow  # trains
@pytest.mark.parametrize("write", [in_folders, in_tfds])
def test_a_stream_is_measured_on_its_validation_split(tmp_path, capsys, write):
    paths = classify.compare(config(**write(tmp_path / "data", LABELS)), tmp_path / "runs")
    records = [
        json.loads(line) for line in (tmp_path / "runs" / "runs.jsonl").read_text().splitlines()
    ]
    assert len(records) == 2
    for record in records:
        assert record["test_class_count"] == [4, 1]
        assert record["validation_class_count"] == [1, 4]
        # Of two classes, the other label is right where the first is wrong.
        assert record["validation_accuracy"] == pytest.approx(1 - record["test_accuracy"])
    text = paths["table"].read_text(encoding="utf-8")
    assert "Test accuracy (%)" in text
    assert "chosen for the best mean accuracy on the validation images." in text
    said = capsys.readouterr().err
    assert ("24 training, 5 test and 5 validation images" in said) == (write is in_folders)
    assert ("all 24 training examples of 'tiny_stored' are read once" in said) == (write is in_tfds)


@pytest.mark.parametrize("write", [in_folders, in_tfds])
@pytest.mark.parametrize("splits", [("train", "test"), ("train", "validation")])
def test_without_one_besides_the_scored_split_the_way_out_is_said(tmp_path, write, splits):
    words = r"config\.selection='validation' needs a data set with a validation split besides its t"
    with pytest.raises(ConfigError, match=words):
        classify.compare(config(**write(tmp_path / "data", splits)), tmp_path / "runs")
