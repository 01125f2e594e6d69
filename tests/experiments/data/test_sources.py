"""Loading: what comes out, and what is said when it cannot.

Covers `prepared.py` too.
"""

import ast
import io
import os
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
import tiny_corrupted
import tiny_imagenet
from array_record.python import array_record_module
from PIL import Image
from prepared_data import TFDS_DIR, prepared

from experiments.data import digits
from experiments.data.sources import (
    STORED,
    DataError,
    MissingDataError,
    describe_test,
    load,
    load_test,
)
from experiments.data.streams import Streams
from regjax import corruptions

# Published: the class counts of MNIST.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
SHARD = "digits-test.array_record-00000-of-00001"


def _prepared(name):
    return load(name, prepared(name))


def _decoded(path, count):
    """Decodes the image files inside the first records, without TFDS."""
    records = array_record_module.ArrayRecordReader(str(path)).read(0, count)
    starts = [re.search(b"\x89PNG\r\n|\xff\xd8\xff", record).start() for record in records]
    pairs = zip(records, starts, strict=True)
    return np.stack([np.asarray(Image.open(io.BytesIO(r[s:]))) for r, s in pairs])


@pytest.fixture(scope="module")
def mnist():
    return _prepared("mnist")


@pytest.fixture(scope="module")
def prepared_digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    digits.prepare(folder)
    return folder


@pytest.fixture
def copy(prepared_digits, tmp_path):
    """Digits to damage: the folder of the files, inside `tmp_path`."""
    shutil.copytree(prepared_digits, tmp_path, dirs_exist_ok=True)
    return tmp_path / "digits" / "1.0.0"


def _edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_mnist_is_whole(mnist):
    assert (mnist.name, mnist.classes) == ("mnist", 10)
    assert mnist.train["image"].shape == (60000, 28, 28, 1)
    assert mnist.test["image"].shape == (10000, 28, 28, 1)
    assert np.bincount(mnist.train["label"]).tolist() == MNIST_TRAIN
    assert np.bincount(mnist.test["label"]).tolist() == MNIST_TEST
    assert mnist.train["image"].dtype == np.uint8
    assert mnist.train["label"].dtype == np.int32


def test_mnist_has_the_published_mean_and_deviation(mnist):
    pixels = mnist.train["image"] / np.float32(255)
    np.testing.assert_allclose(pixels.mean(dtype=np.float64), 0.1307, atol=5e-5)
    np.testing.assert_allclose(pixels.std(dtype=np.float64), 0.3081, atol=5e-5)


def test_mnist_decodes_as_pillow_does(mnist):
    file = TFDS_DIR / "mnist" / "3.0.1" / "mnist-test.array_record-00000-of-00001"
    np.testing.assert_array_equal(mnist.test["image"][:200, ..., 0], _decoded(file, 200))


def test_a_folder_without_a_builder_class():
    data = _prepared("cifar10_jpeg")
    assert data.train["image"].shape == (50000, 32, 32, 3)
    assert np.bincount(data.test["label"]).tolist() == [1000] * 10
    file = TFDS_DIR / "cifar10_jpeg" / "1.0.0" / "cifar10_jpeg-test.array_record-00000-of-00001"
    np.testing.assert_array_equal(data.test["image"][:50], _decoded(file, 50))


def test_the_default_folder_is_that_of_tfds(prepared_digits, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared_digits))
    assert load("digits").test["label"].size == 510


@pytest.mark.parametrize("called", ["my data", "a \"b\" 'c' \\n", "täglich"])
def test_missing_data_names_folder_command_and_alternative(tmp_path, called):
    folder = tmp_path / called
    with pytest.raises(MissingDataError) as caught:
        load("mnist", folder)
    message = str(caught.value)
    assert f"'mnist' in {folder}:" in message
    assert "or use the embedded 'digits'" in message
    assert isinstance(caught.value, FileNotFoundError)
    # Through a shell, this is Python that has the folder as one string.
    install, prepare = (shlex.split(command) for command in re.findall("`(.*?)`", message))
    assert install == [sys.executable, "-m", "pip", "install", "regjax[prepare]"]
    program, flag, code = prepare
    assert (program, flag) == (sys.executable, "-c")
    values = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert sorted(values) == sorted(["mnist", str(folder), "array_record"])


@pytest.mark.parametrize("name", ["mnsit", "", "..", "../digits", "digits/", "no-name", "a b"])
def test_a_name_that_tfds_does_not_know(name, prepared_digits):
    with pytest.raises(MissingDataError, match="TFDS has no data set of that name") as caught:
        load(name, prepared_digits)
    assert ("is it 'mnist'?" in str(caught.value)) == (name == "mnsit")
    for form in ("array_record", "features 'image' and 'label'", "'folder:PATH'", "'npz:PATH'"):
        assert form in str(caught.value)


def test_a_version_that_is_not_there(copy, tmp_path):
    shutil.copytree(copy.parent, tmp_path / "mnist")
    with pytest.raises(MissingDataError, match=r"'mnist:9\.9\.9' in .* wrong version"):
        load("mnist:9.9.9", tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / SHARD).unlink(), f"the file {SHARD} is missing"),
        (lambda path: os.truncate(path / SHARD, 3000), "64KB"),
        (lambda path: (path / "features.json").unlink(), "its folder is incomplete"),
        (lambda path: (path / "dataset_info.json").unlink(), "Could not read dataset info"),
        (lambda path: (path / "dataset_info.json").write_text("{"), "Failed to load JSON"),
        (lambda path: (path / "features.json").write_text('{"a'), "Unterminated string"),
        (lambda path: _edit(path / "dataset_info.json", '"510"', '"600"'), "out of bound"),
        (
            lambda path: _edit(path / "dataset_info.json", "array_record", "tfrecord"),
            "its files are tfrecord, not array_record",
        ),
    ],
)
def test_damage(copy, tmp_path, damage, reason):
    damage(copy)
    sentence = rf"cannot be read \(.*{reason}.*\): delete its folder and load it again\.$"
    with pytest.raises(DataError, match=sentence) as caught:
        load("digits", tmp_path)
    assert str(caught.value).startswith(f"The data set 'digits' in {tmp_path} ")


def test_flipped_bits(copy, tmp_path):
    content = bytearray((copy / SHARD).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 255 for byte in content[middle : middle + 64])
    (copy / SHARD).write_bytes(content)
    with pytest.raises(DataError, match="hash mismatch"):
        load("digits", tmp_path)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("dataset_info.json", '"test"', '"extra"', "has no test and no validation split"),
        (
            "features.json",
            '"label": {',
            '"writer": {',
            "not have a class 'label', or a mask .* 'writer'",
        ),
        ("features.json", "uint8", "uint16", "not have a uint8 'image'"),
        (
            "features.json",
            '"10"',
            '"9"',
            "labels in the train split of .* from 0 to 9, but must be from 0 to 8",
        ),
    ],
)
def test_data_that_does_not_fit(copy, tmp_path, file, old, new, message):
    _edit(copy / file, old, new)
    with pytest.raises(DataError, match=message):
        load("digits", tmp_path)


# What is scored.


@pytest.mark.parametrize(
    ("splits", "withheld", "scored", "count"),
    [
        ({"train": 4, "validation": 3, "test": 5}, "", "test", 5),
        ({"train": 4, "validation": 3, "test": 5}, "test", "validation", 3),
        ({"train": 4, "validation": 3}, "", "validation", 3),
    ],
)
def test_the_test_split_or_else_the_validation_split_is_scored(
    tmp_path, splits, withheld, scored, count
):
    tiny_imagenet.prepare(tmp_path, splits=splits, withheld=withheld)
    data = load("tiny_imagenet", tmp_path, 8)
    assert (data.scored, len(data.test["label"]), len(data.train["label"])) == (scored, count, 4)
    assert len(load_test("tiny_imagenet", tmp_path, 8)["label"]) == count
    assert Streams("tiny_imagenet", tmp_path).scored == scored
    # It is another split than that which is scored, where there is one.
    own = 3 if scored == "test" and "validation" in splits else 0
    both = load("tiny_imagenet", tmp_path, 8, validation=True)
    assert (0 if both.validation is None else len(both.validation["label"])) == own
    stream = Streams("tiny_imagenet", tmp_path, image_size=8, validation=True)
    assert stream.validation_examples == own
    if own:
        *_, weight = next(stream.validation(8))
        assert weight.sum() == own


def test_a_validation_split_without_labels_does_not_count(tmp_path):
    splits = {"train": 4, "validation": 3, "test": 5}
    tiny_imagenet.prepare(tmp_path, splits=splits, withheld="validation")
    assert load("tiny_imagenet", tmp_path, 8, validation=True).validation is None
    assert Streams("tiny_imagenet", tmp_path, validation=True).validation_examples == 0


def test_withheld_test_labels_and_no_validation_split(tmp_path):
    tiny_imagenet.prepare(tmp_path, splits={"train": 4, "test": 5}, withheld="test")
    for read in (load, load_test, describe_test):
        with pytest.raises(DataError, match=r"test labels .* withheld, and it has no validation"):
            read("tiny_imagenet", tmp_path, 8)


# The test split alone.


def test_the_test_split_alone_is_that_of_the_whole(prepared_digits):
    alone = load_test("digits", prepared_digits)
    whole = load("digits", prepared_digits)
    np.testing.assert_array_equal(alone["image"], whole.test["image"])
    np.testing.assert_array_equal(alone["label"], whole.test["label"])
    assert describe_test("digits", prepared_digits) == ((8, 8, 1), 10, tuple("0123456789"))


def test_a_data_set_of_nothing_but_a_test_split(tmp_path):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (7, 4, 6, 3)).astype(np.uint8)
    label = generator.integers(0, 5, 7).astype(np.int32)
    tiny_corrupted.prepare(tmp_path, "fog_3", image, label, 5)
    split = load_test("cifar10_corrupted/fog_3", tmp_path)
    np.testing.assert_array_equal(split["image"], image)
    np.testing.assert_array_equal(split["label"], label)
    assert describe_test("cifar10_corrupted/fog_3", tmp_path) == ((4, 6, 3), 5, tuple("01234"))
    with pytest.raises(DataError, match="has no train split"):
        load("cifar10_corrupted/fog_3", tmp_path)
    with pytest.raises(MissingDataError, match=r"'cifar10_corrupted/fog_4' in .* has no config or"):
        load_test("cifar10_corrupted/fog_4", tmp_path)


@pytest.mark.parametrize("read", [load_test, describe_test])
def test_without_a_test_split_that_is_said(copy, tmp_path, read):
    _edit(copy / "dataset_info.json", '"test"', '"extra"')
    with pytest.raises(DataError, match="has no test and no validation split"):
        read("digits", tmp_path)


def test_stored_corruptions_are_those_of_the_library_by_the_names_of_tfds():
    from tensorflow_datasets.image_classification import cifar10_corrupted

    names = [STORED.get(name, name) for name in (*corruptions.NAMES, *corruptions.EXTRA)]
    configs = {config.name for config in cifar10_corrupted.Cifar10Corrupted.BUILDER_CONFIGS}
    assert configs == {f"{name}_{severity}" for name in names for severity in range(1, 6)}
