"""Unbalanced classes and validation splits, from the config to the table."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common
from experiments import ConfigError, classify
from experiments.data import dataset
from experiments.data.sources import Dataset


def split(counts):
    label = np.repeat(np.arange(3), counts).astype(np.int32)
    image = np.zeros((len(label), 4, 4, 1), np.uint8)
    image[np.arange(len(label)), 0, label] = 255
    return {"image": image, "label": label}


@pytest.fixture
def few(monkeypatch):
    """A data set of unbalanced classes with a validation split."""
    names = ("left", "middle", "right")

    def read(data_dir, image_size):
        del data_dir, image_size
        return Dataset("few", split([16, 4, 2]), split([9, 3, 3]), 3, names, validation=VALIDATION)

    monkeypatch.setitem(dataset.DATASETS, "few", read)


VALIDATION = split([3, 3, 3])


def config(**changes):
    small = common.base()
    small.dataset, small.model, small.epochs, small.batch_size = "few", "small_cnn", 1, 11
    small.losses = ConfigDict({"l2": "cross_entropy | l2(weight={strength})"})
    small.strengths = ConfigDict({"l2": (0.1, 0.2)})
    for name, value in changes.items():
        setattr(small, name, value)
    return small


@pytest.mark.slow  # trains
def test_a_table_of_unbalanced_classes_whose_strengths_a_validation_split_chooses(few, tmp_path):
    paths = classify.compare(config(class_weights="balanced"), tmp_path)
    text = paths["table"].read_text(encoding="utf-8")
    assert "all images: balanced accuracy (%)" in text
    assert "Always saying the largest class (left): 60.0 % accuracy." in text
    assert "on the validation images." in text
    records = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert all(record["validation_class_count"] == [3, 3, 3] for record in records)
    assert "class_weights" not in records[0]["loss"]


def test_without_a_split_to_choose_by_the_way_out_is_said(few, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "VALIDATION", None)
    words = "needs config.validation_per_class of at least 1, or a data set with a validation split"
    with pytest.raises(ConfigError, match=words):
        classify.compare(config(), tmp_path)


def test_a_class_with_too_few_images_is_named(few, tmp_path):
    with pytest.raises(ValueError, match="Class 'right' has 2 examples, but 4 of each class"):
        classify.compare(config(train_sizes=(3,), validation_per_class=1), tmp_path)
