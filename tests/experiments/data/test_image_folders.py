"""Folders of images, in memory and as streams, and what is said of them.

Covers `items.py`, `item_splits.py`, `kinds.py`, `reading.py` and `splitting.py` too.
"""

import re

import numpy as np
import pytest
from PIL import Image

from experiments.data.sources import (
    DataError,
    MissingDataError,
    Options,
    describe_test,
    load,
    load_test,
)
from experiments.data.streams import Streams

COUNTS = {"cat": 10, "dog": 5}
SKIP = Options(broken="skip")


def save(path, value=0, size=(4, 4), mode="RGB"):
    """An image of one value; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * len(mode) if len(mode) > 1 else value).save(path)


def fill(folder, counts=COUNTS, **options):
    """Images whose value tells class and number."""
    for label, (name, count) in enumerate(counts.items()):
        for i in range(count):
            save(folder / name / f"{i:02d}.png", 100 * label + i, **options)
    return f"folder:{folder}"


def values(split):
    return split["image"][:, 0, 0, 0].tolist()


def test_a_share_of_each_class_is_scored(tmp_path):
    found = load(fill(tmp_path))
    assert (found.classes, found.class_names, found.scored) == (2, ("cat", "dog"), "test")
    assert np.bincount(found.train["label"]).tolist() == [8, 4]
    assert np.bincount(found.test["label"]).tolist() == [2, 1]
    both = sorted(values(found.train) + values(found.test))
    assert both == [*range(10), *range(100, 105)]
    for split in (found.train, found.test):
        np.testing.assert_array_equal(split["label"], np.array(values(split)) // 100)


def test_seed_and_share_divide(tmp_path):
    name = fill(tmp_path)
    first, again, other = (
        values(load(name, options=Options(split_seed=seed)).test) for seed in (0, 0, 1)
    )
    assert first == again != other
    half = load(name, options=Options(test_share=0.5))
    assert np.bincount(half.test["label"]).tolist() == [5, 2]
    most = load(name, options=Options(test_share=0.99))
    assert np.bincount(most.train["label"]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("train", "test", "scored"),
    [
        ("train", "test", "test"),
        ("Training", "val", "validation"),
        ("train", "valid", "validation"),
    ],
)
def test_splits_that_are_set_apart(tmp_path, train, test, scored):
    fill(tmp_path / train)
    save(tmp_path / test / "dog" / "deep" / "1.PNG", 200)
    save(tmp_path / "elsewhere" / "1.png")
    found = load(f"folder:{tmp_path}")
    assert found.scored == scored
    assert len(found.train["label"]) == 15
    assert (values(found.test), found.test["label"].tolist()) == ([200], [1])


@pytest.mark.parametrize("validation", ["val", "Validation", "valid"])
def test_a_validation_split_beside_the_test_split(tmp_path, validation):
    fill(tmp_path / "train")
    fill(tmp_path / "test", {"cat": 3, "dog": 1})
    fill(tmp_path / validation, {"cat": 2, "dog": 4})
    name = f"folder:{tmp_path}"
    found = load(name, validation=True)
    assert (found.scored, len(found.train["label"]), len(found.test["label"])) == ("test", 15, 4)
    assert values(found.validation) == [0, 1, 100, 101, 102, 103]
    assert found.validation["label"].tolist() == [0, 0, 1, 1, 1, 1]
    assert "15 training, 4 test and 6 validation images of 2 classes." in found.about
    assert "  cat: 10 training, 3 test, 2 validation\n  dog: 5 training, 1" in found.about
    streams = Streams(name, image_size=4, validation=True)
    assert (streams.scored, streams.validation_examples) == ("test", 6)
    assert streams.about == found.about
    (image, label, *_, weight), *_ = streams.validation(8)
    assert values({"image": image[:6]}) == values(found.validation)
    assert (label[:6].tolist(), weight.sum()) == ([0, 0, 1, 1, 1, 1], 6)
    for other in (load(name), Streams(name)):
        assert "15 training and 4 test images" in other.about
        assert "Not looked at: 6 validation images (those of config.dataset choose" in other.about
    assert load(name).validation is None
    assert Streams(name).validation_examples == 0


def test_a_broken_validation_image_is_named_or_left_out(tmp_path):
    for split in ("train", "test", "val"):
        fill(tmp_path / split, {"cat": 2, "dog": 2})
    (tmp_path / "val" / "cat" / "00.png").write_bytes(b"")
    name = f"folder:{tmp_path}"
    with pytest.raises(DataError, match=r"val/cat/00\.png cannot be read"):
        load(name, validation=True)
    found = load(name, validation=True, options=SKIP)
    assert values(found.validation) == [1, 100, 101]
    streams = Streams(name, validation=True, options=SKIP)
    assert streams.validation_examples == 3
    assert "1 broken image is left out" in streams.about


def test_folders_beside_the_splits_are_said_to_be_left_out(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "dev")
    assert "Left out beside its splits: 'dev'." in load(f"folder:{tmp_path}").about


def test_the_training_images_alone_are_divided(tmp_path):
    fill(tmp_path / "train")
    assert len(load(f"folder:{tmp_path}").test["label"]) == 3


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pets")
    assert load("folder:~/pets").classes == 2


def test_all_grey_is_one_channel_and_one_of_colours_makes_three(tmp_path):
    name = fill(tmp_path, mode="L")
    assert load(name).train["image"].shape == (12, 4, 4, 1)
    save(tmp_path / "cat" / "colour.png", 7)
    found = load(name)
    assert found.train["image"].shape[1:] == found.test["image"].shape[1:] == (4, 4, 3)
    assert Streams(name, image_size=2).shape == (2, 2, 3)


def test_sizes(tmp_path):
    name = fill(tmp_path)
    save(tmp_path / "cat" / "wide.png", 7, size=(9, 4))
    with pytest.raises(DataError, match=r"4 x 4 and 4 x 9: name one in config\.image_size"):
        load(name)
    assert load(name, image_size=2).train["image"].shape[1:] == (2, 2, 3)


def test_the_centre_or_the_whole(tmp_path):
    name = fill(tmp_path, {"a": 2, "b": 2}, size=(32, 16))
    for path in tmp_path.rglob("*.png"):  # black, but for the left half
        Image.fromarray(np.tile(np.uint8([255] * 16 + [0] * 16), (16, 1))).save(path)
    whole = load(name, image_size=8, options=Options(resize="whole")).train["image"]
    assert whole[0, 0, :, 0].tolist() == pytest.approx([255] * 3 + [239, 16] + [0] * 3, abs=17)
    centre = load(name, image_size=8).train["image"]
    assert centre[0, 0, 0, 0] == 255
    stream = Streams(name, image_size=8, options=Options(resize="whole")).train(4, seed=0)
    image, _, index = next(stream)
    stream.close()
    assert sorted(index.tolist()) == [0, 0, 1, 1]
    np.testing.assert_array_equal(image, whole[index])


def test_what_is_said(tmp_path):
    name = fill(tmp_path)
    (tmp_path / "dog" / "notes.txt").touch()
    (tmp_path / "dog" / ".DS_Store").touch()
    (tmp_path / "dog" / "broken.jpg").write_bytes(b"")
    about = load(name, options=SKIP).about
    assert about == Streams(name, options=SKIP).about
    for line in (
        "12 training and 3 test images of 2 classes.",
        "  cat: 8 training, 2 test",
        "20% of each class, drawn by seed 0",
        f"Left out as no images in {tmp_path}: 1 of .txt.",
        "1 broken image is left out",
        "broken.jpg: it is empty",
    ):
        assert line in about


def test_of_many_classes_two_are_named(tmp_path):
    about = load(fill(tmp_path, {f"c{i:02d}": 2 + i % 5 for i in range(31)})).about
    assert "  c00: 1 training, 1 test\n  c04: 5 training, 1 test" in about
    assert "c02" not in about


@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_a_broken_file_is_named_or_left_out(tmp_path, content):
    name = fill(tmp_path / "in", size=(40, 40))
    path = tmp_path / "in" / "cat" / "03.png"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900] if content == "cut" else content)
    with pytest.raises(DataError, match=rf"{re.escape(str(path))} cannot be read .*='skip'"):
        load(name, image_size=8)
    found = load(name, image_size=8, options=SKIP)
    assert sorted(values(found.train) + values(found.test)) == [
        *(i for i in range(10) if i != 3),
        *range(100, 105),
    ]
    streams = Streams(name, image_size=8, options=SKIP)
    assert streams.examples + streams.test_examples == 14


def test_a_stream_refuses_a_broken_file_when_it_comes(tmp_path):
    fill(tmp_path / "train", {"a": 2, "b": 2})
    save(tmp_path / "test" / "a" / "1.png")
    (tmp_path / "train" / "a" / "01.png").write_bytes(b"")
    stream = Streams(f"folder:{tmp_path}", image_size=2).train(4, seed=0)
    with pytest.raises(DataError, match=r"a/01\.png cannot be read \(it is empty\)"):
        next(stream)
    stream.close()


def test_a_stream_has_the_images_of_memory(tmp_path):
    name = fill(tmp_path)
    streams, found = Streams(name, image_size=4), load(name)
    assert (streams.classes, streams.class_names) == (2, ("cat", "dog"))
    (image, label, index, weight), *_ = streams.test(4)
    assert (values({"image": image[:3]}), weight.tolist()) == (values(found.test), [1, 1, 1, 0])
    np.testing.assert_array_equal(label[:3], found.test["label"])
    stream = streams.train(6, seed=0)
    image, label, index = next(stream)
    np.testing.assert_array_equal(label, found.train["label"][index])
    assert image[:, 0, 0, 0].tolist() == [values(found.train)[i] for i in index]
    stream.close()
    second = streams.unlabeled(6, seed=0)
    assert next(second)[1].tolist() == [-1] * 6
    second.close()


def test_workers_read_the_same(tmp_path):
    name = fill(tmp_path)
    batches = []
    for workers in (0, 1):
        stream = Streams(name, image_size=3, workers=workers).train(6, seed=0)
        batches.append(next(stream))
        stream.close()
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_folder_to_be_tested_on_is_read_whole(tmp_path):
    name = fill(tmp_path)
    assert len(load_test(name)["label"]) == 15
    assert describe_test(name) == ((4, 4, 3), 2, ("cat", "dog"))
    fill(tmp_path / "apart" / "train")
    save(tmp_path / "apart" / "test" / "cat" / "1.png", 9)
    assert values(load_test(f"folder:{tmp_path / 'apart'}")) == [9]


def nothing(folder):
    pass


def no_classes(folder):
    save(folder / "1.png")


def one_class(folder):
    save(folder / "cat" / "1.png")


def one_image(folder):
    fill(folder, {"cat": 3, "dog": 1})


def no_training(folder):
    fill(folder / "test")


def no_images(folder):
    for name in COUNTS:
        (folder / name).mkdir()
        (folder / name / "1.heic").touch()


def other_sizes(folder):
    fill(folder / "train")
    fill(folder / "test", size=(5, 5))


def other_validation_sizes(folder):
    fill(folder / "train")
    fill(folder / "test")
    fill(folder / "val", size=(5, 5))


def no_classes_of_validation(folder):
    fill(folder / "train")
    fill(folder / "test")
    save(folder / "val" / "1.png")


def two_of_validation(folder):
    for split in ("train", "val", "validation"):
        fill(folder / split)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nothing, "has no folders, but classes are told from folders"),
        (no_classes, "has no folders, but classes are told from folders"),
        (one_class, "has the folder 'cat' alone"),
        (one_image, "The class 'dog' of .* has one image, which cannot be both"),
        (no_training, "has a folder 'test', but none of training images"),
        (no_images, "no images in the folders of .*, but files '.heic': images are files .jpg"),
        (other_sizes, r"\[4, 4, 3\], but those to score \[5, 5, 3\]: name one size"),
        (other_validation_sizes, r"but those of its validation split \[5, 5, 3\]: name one size"),
        (no_classes_of_validation, "no images in the folders of '.*val': images are files"),
        (two_of_validation, "has 'val' and 'validation', which both name the validation split"),
    ],
)
def test_folders_that_cannot_be_trained_on(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        load(f"folder:{tmp_path}", validation=True)


@pytest.mark.parametrize("split", ["", "train", "val"])
def test_an_empty_class_is_named(tmp_path, split):
    fill(tmp_path / split)
    if split == "val":
        save(tmp_path / split / "bird" / "1.png")
    else:
        (tmp_path / split / "bird").mkdir()
    if split:
        fill(tmp_path / "train")
        fill(tmp_path / "test")
    with pytest.raises(DataError, match=r"The class 'bird' of .* has no training images"):
        Streams(f"folder:{tmp_path}")


def test_a_folder_that_is_not_there(tmp_path):
    for read in (load, Streams):
        with pytest.raises(MissingDataError, match=r"There is no folder '.*nowhere'"):
            read(f"folder:{tmp_path}/nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file' is no folder"):
        load(f"folder:{tmp_path}/file")
