"""Data sets from outside: found by name, and checked as those from a folder are."""

import numpy as np
import pytest

from experiments.data import dataset as datasets
from experiments.data.dataset import DataError, Dataset, check_split, register
from experiments.data.sources import MissingDataError, describe_test, load, load_test
from experiments.data.streams import Streams


@pytest.fixture(autouse=True)
def nothing_stays_registered():
    before = dict(datasets.DATASETS)
    yield
    datasets.DATASETS.clear()
    datasets.DATASETS.update(before)


def split(count=4, size=6, **changes):
    image = np.arange(count * size * size).reshape(count, size, size, 1).astype(np.uint8)
    return {"image": image, "label": (np.arange(count) % 2).astype(np.int32), **changes}


def test_a_registered_data_set_is_read_by_its_name(tmp_path):
    calls = []

    @register("stripes")
    def stripes(data_dir, image_size):
        calls.append((data_dir, image_size))
        size = image_size or 6
        return Dataset("stripes", split(8, size), split(4, size), 2, ("a", "b"))

    assert load("stripes", tmp_path).train["image"].shape == (8, 6, 6, 1)
    assert load("stripes", tmp_path, 3).test["image"].shape == (4, 3, 3, 1)
    np.testing.assert_array_equal(load_test("stripes", tmp_path)["image"], split(4)["image"])
    assert describe_test("stripes", tmp_path, 3) == ((3, 3, 1), 2, ("a", "b"))
    assert calls == [(tmp_path, size) for size in (0, 3, 0, 3)]


def test_what_a_data_set_says_by_default():
    data = Dataset("tiny", split(5), split(3), 3)
    assert data.class_names == ("0", "1", "2")
    assert (data.scored, data.parts) == ("test", (range(5),))


def test_an_unknown_name_is_told_of_those_that_are_registered(tmp_path):
    register("stripes")(lambda data_dir, image_size: None)
    with pytest.raises(MissingDataError, match=r"is it 'stripes'\?\).* or 'stripes', which is reg"):
        load("strips", tmp_path)


def test_a_stream_of_it_is_refused_with_the_way_out(tmp_path):
    register("stripes")(lambda data_dir, image_size: None)
    with pytest.raises(DataError, match=r"is registered, .*: set config\.data='memory'"):
        Streams("stripes", tmp_path)


def test_a_name_can_be_registered_again_by_its_own_module_alone():
    def first(data_dir, image_size):
        return None

    def other(data_dir, image_size):
        return None

    other.__module__ = "elsewhere"
    register("stripes")(first)
    assert register("stripes")(first) is first
    with pytest.raises(ValueError, match="A data set named 'stripes' exists already in "):
        register("stripes")(other)
    assert datasets.DATASETS["stripes"] is first


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            split(label=np.full(4, 2)),
            r"labels in the train split of 'odd' go from 2 to 2, but must",
        ),
        (split(label=np.zeros(3, np.int32)), r"one for each of the images \[4, 6, 6, 1\] or of"),
        (split(label=np.zeros(4)), r"must be whole numbers, .* not float64 \[4\]"),
        (split(label=np.zeros((4, 6, 5), np.uint8)), r"not uint8 \[4, 6, 5\]"),
        (split(image=np.zeros((4, 6, 6), np.uint8)), r"\[N, H, W, K\], not uint8 \[4, 6, 6\]"),
        (split(image=np.zeros((4, 6, 6, 1))), r"must be uint8 or float32 .* not float64"),
        (split(image=np.full((4, 6, 6, 1), 2, np.float32)), r"go from 2 to 2, but floats must be"),
        ({"image": np.zeros((4, 6, 6, 1), np.uint8)}, "There is no label in the train split"),
        (split(0), "There are no examples in the train split"),
        (split(size=5), r"to train on are \[5, 5, 1\], but those to score \[6, 6, 1\]"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(train, message):
    register("odd")(lambda data_dir, image_size: Dataset("odd", train, split(), 2))
    with pytest.raises(DataError, match=message):
        load("odd")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (split(label=np.full(4, 2)), "labels in the validation split of 'odd' go from 2 to 2, but"),
        (split(size=5), r"on are \[6, 6, 1\], but those of its validation split \[5, 5, 1\]"),
    ],
)
def test_what_cannot_choose_strengths_is_one_sentence(own, message):
    register("odd")(lambda *_: Dataset("odd", split(), split(), 2, validation=own))
    with pytest.raises(DataError, match=message):
        load("odd")


def test_ignored_pixels_are_no_class_and_255_is_no_class_of_an_image():
    mask = np.full((4, 6, 6), 255, np.uint8)
    mask[:, 0] = 1
    check_split("here", split(label=mask), 2)
    with pytest.raises(DataError, match=r"go from 0 to 255, but must be from 0 to 1\.$"):
        check_split("here", split(label=np.array([0, 1, 0, 255])), 2)
