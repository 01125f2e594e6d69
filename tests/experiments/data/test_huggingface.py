"""Data sets of the package `datasets`, saved to the disk."""

import sys

import numpy as np
import pytest
from PIL import Image

from experiments.data.sources import DataError, MissingDataError, Options, load
from experiments.data.streams import Streams

KEYS = Options(image="img")


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs the package 'datasets': pip install 'regjax\[hug"):
        load("huggingface:cifar10")


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")


@pytest.fixture
def table(datasets):
    """Six images of two classes under other keys."""
    images = [Image.fromarray(np.full((4, 4, 3), 20 * i, np.uint8)) for i in range(6)]
    features = {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["cat", "dog"])}
    rows = {"img": images, "fine": [0, 1] * 3}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_splits_of_a_saved_data_set(datasets, table, tmp_path):
    datasets.DatasetDict(train=table, validation=table.select([3])).save_to_disk(tmp_path)
    found = load(f"huggingface:{tmp_path}", label="fine", options=KEYS)
    assert found.train["image"][:, 0, 0, 0].tolist() == [0, 20, 40, 60, 80, 100]
    assert found.train["label"].tolist() == [0, 1] * 3
    assert (found.scored, found.class_names) == ("validation", ("cat", "dog"))
    streams = Streams(f"huggingface:{tmp_path}", image_size=2, label="fine", options=KEYS)
    image, label, *_ = next(iter(streams.test(1)))
    assert (image.shape, image[0, 0, 0, 0], label) == ((1, 2, 2, 3), 60, [1])


def test_a_validation_split_beside_the_test_split(datasets, table, tmp_path):
    splits = {"train": table, "test": table.select([1]), "valid": table.select([2, 5])}
    datasets.DatasetDict(**splits, extra=table).save_to_disk(tmp_path)
    name, how = f"huggingface:{tmp_path}", {"label": "fine", "options": KEYS, "validation": True}
    found = load(name, **how)
    assert (found.scored, found.test["label"].tolist()) == ("test", [1])
    assert found.validation["image"][:, 0, 0, 0].tolist() == [40, 100]
    assert found.validation["label"].tolist() == [0, 1]
    assert "6 training, 1 test and 2 validation images" in found.about
    assert "Left out of its splits: 'extra'." in found.about
    assert Streams(name, image_size=2, **how).validation_examples == 2


def test_withheld_test_labels_and_classes_by_name(datasets, table, tmp_path):
    values = {"img": datasets.Image(), "fine": datasets.Value("int64")}
    plain = table.cast(datasets.Features(values))
    withheld = plain.map(lambda row: {"fine": -1})
    splits = {"train": plain, "test": withheld, "validation": plain.select([0])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "numbers")
    found = load(f"huggingface:{tmp_path}/numbers", label="fine", options=KEYS)
    assert (found.scored, found.class_names) == ("validation", ("0", "1"))
    assert "Left out as their labels are withheld: 'test'." in found.about
    texts = plain.cast_column("fine", datasets.Value("string"))
    texts.save_to_disk(tmp_path / "texts")
    found = load(f"huggingface:{tmp_path}/texts", label="fine", options=KEYS)
    assert np.bincount(found.test["label"]).tolist() == [1, 1]


def test_what_does_not_fit(datasets, table, tmp_path):
    table.save_to_disk(tmp_path / "own")
    name = f"huggingface:{tmp_path}/own"
    with pytest.raises(DataError, match=r"no 'image' in .* has 'img', 'fine'.*config\.image_key"):
        load(name)
    with pytest.raises(DataError, match="is not one of images"):
        load(name, label="img", options=Options(image="fine"))
    with pytest.raises(MissingDataError, match=r"cannot load .*nowhere"):
        load(f"huggingface:{tmp_path}/nowhere")
