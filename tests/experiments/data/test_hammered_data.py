"""Damaged data sets: read, or refused in one sentence that names the data set."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_stored
from hammered import assert_one_sentence, damaged
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import sources


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A prepared data set, and what is in its files."""
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    examples = [
        {"image": io.BytesIO(tiny_stored.png(image)), "label": i % 3}
        for i, image in enumerate(images)
    ]
    features = {
        "image": tfds.features.Image(shape=(4, 4, 3)),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    splits = {"train": examples[:4], "test": examples[4:]}
    data_dir = tiny_stored.prepare(tmp_path_factory.mktemp("data"), features, splits)
    files = {path: path.read_bytes() for path in data_dir.rglob("*.*") if path.is_file()}
    return data_dir, files


@given(data=st.data())
def test_a_damaged_data_set_is_read_or_named(written, data):
    data_dir, files = written
    path = data.draw(st.sampled_from(sorted(files)))
    path.write_bytes(data.draw(damaged(files[path])))
    try:
        found = sources.load("tiny_stored", data_dir)
    except (sources.DataError, sources.MissingDataError) as error:
        assert_one_sentence(error, "tiny_stored")
    else:
        for split in (found.train, found.test):
            assert len(split["image"]) == len(split["label"]) > 0
            assert 0 <= split["label"].min() <= split["label"].max() < found.classes
    finally:
        path.write_bytes(files[path])
