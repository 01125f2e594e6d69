"""Cityscapes' folders, in memory and as a stream, and what is said of what is not there."""

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

HEIGHT, WIDTH = 4, 6
COUNTS = {"train": {"ulm": 3, "aachen": 2}, "val": {"lindau": 2}}


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def place(folder, split, city, number):
    """The paths of an image and of its mask."""
    name = f"{city}_{number:06d}_000019"
    image = folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
    return image, folder / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"


def fill(folder, counts=COUNTS, shape=(HEIGHT, WIDTH)):
    """Colours whose red is the mask's id; returns the data set's name."""
    rng = np.random.default_rng(0)
    for split, cities in counts.items():
        for city, count in cities.items():
            for number in range(count):
                mask = rng.integers(0, 34, shape).astype(np.uint8)
                mask[0, :4] = 7, 0, 8, 255
                image = np.stack([mask, np.full_like(mask, number), mask // 2], -1)
                for path, array in zip(
                    place(folder, split, city, number), (image, mask), strict=True
                ):
                    save(path, array)
    (folder / "gtFine" / next(iter(counts)) / "colors.png").touch()
    return f"cityscapes:{folder}"


# By the names of the classes, in the order of their train ids.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def expected(image):
    """The classes that an image shows."""
    return np.select([image[..., 0] == number for number in IDS], range(19), 255)


def test_a_folder_in_memory(tmp_path):
    found = load(fill(tmp_path))
    assert (found.classes, found.scored) == (19, "validation")
    assert (found.class_names[0], found.class_names[18]) == ("road", "bicycle")
    assert found.train["image"].shape == (5, HEIGHT, WIDTH, 3)
    assert found.train["image"][:, 0, 0, 1].tolist() == [0, 1, 0, 1, 2]  # Aachen first
    for split in (found.train, found.test):
        assert split["label"].dtype == np.uint8
        np.testing.assert_array_equal(split["label"], expected(split["image"]))
        assert split["label"][0, 0, :4].tolist() == [0, 255, 1, 255]
    assert found.about == (
        f"cityscapes:{tmp_path}: 5 training and 2 validation images of 19 classes of pixels."
    )


def test_a_folder_as_a_stream(tmp_path):
    name = fill(tmp_path)
    found, streams = load(name), Streams(name)
    assert (streams.dense, streams.shape) == (True, (HEIGHT, WIDTH, 3))
    assert (streams.examples, streams.test_examples, streams.scored) == (5, 2, "validation")
    assert streams.about == found.about
    stream = streams.train(5, seed=0)
    image, label, index = next(stream)
    stream.close()
    np.testing.assert_array_equal(image, found.train["image"][index])
    np.testing.assert_array_equal(label, found.train["label"][index])
    ((image, label, index, _),) = streams.test(2)
    np.testing.assert_array_equal(image, found.test["image"])
    np.testing.assert_array_equal(label, found.test["label"])
    stream = streams.unlabeled(5, seed=0)
    assert (next(stream)[1] == 255).all()
    stream.close()


def test_what_is_scored_alone_and_its_description(tmp_path):
    name = fill(tmp_path)
    found = load(name)
    np.testing.assert_array_equal(load_test(name)["label"], found.test["label"])
    assert describe_test(name) == ((HEIGHT, WIDTH, 3), 19, found.class_names)


def test_resized_in_memory(tmp_path):
    found = load(fill(tmp_path), image_size=2, options=Options(resize="whole"))
    assert found.train["label"].shape == (5, 2, 2)
    assert set(np.unique(found.train["label"])) <= {*range(19), 255}


@pytest.mark.parametrize("read", [load, Streams])
def test_masks_that_are_not_there(tmp_path, read):
    name = fill(tmp_path)
    image, mask = place(tmp_path, "train", "ulm", 1)
    mask.unlink()
    said = re.escape(f"The image {image} has no mask {mask}: unpack gtFine_trainvaltest.zip there")
    with pytest.raises(DataError, match=said):
        read(name)
    place(tmp_path, "train", "ulm", 2)[1].unlink()
    with pytest.raises(DataError, match=r"labelIds\.png, and 1 more have none: unpack"):
        read(name)


@pytest.mark.parametrize("read", [load, Streams])
@pytest.mark.parametrize("odd", ["mask", "both"])
def test_sizes_that_differ(tmp_path, read, odd):
    name = fill(tmp_path)
    image, mask = place(tmp_path, "val", "lindau", 1)
    save(mask, np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    said = f"The image {image} is of 4 x 6 pixels, but its mask {mask} of 4 x 7: they must be"
    if odd == "both":
        save(image, np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
        first, _ = place(tmp_path, "train", "aachen", 0)
        said = f"The image {image} is of 4 x 7 pixels, but the first one, {first}, of 4 x 6: they"
    with pytest.raises(DataError, match=re.escape(said)):
        read(name)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_folder_without_images(tmp_path, split):
    name = fill(tmp_path, {other: n for other, n in COUNTS.items() if other != split})
    said = f"There are no images leftImg8bit/{split}/CITY/*_leftImg8bit.png in '{tmp_path}': unpack"
    with pytest.raises(DataError, match=re.escape(said)):
        load(name)


@pytest.mark.parametrize("path", ["", "elsewhere"])
def test_a_folder_that_is_not_there(tmp_path, path):
    with pytest.raises(MissingDataError, match=f"There is no folder '.*{path}': config.dataset='c"):
        load(f"cityscapes:{path and tmp_path / path}")


@pytest.mark.parametrize(("which", "said"), [(0, "image"), (1, "mask")])
def test_a_broken_file_is_named_or_left_out(tmp_path, which, said):
    name = fill(tmp_path)
    broken = place(tmp_path, "train", "aachen", 1)[which]
    broken.write_bytes(b"text")
    stream = Streams(name).train(5, seed=0)
    for read in (lambda: load(name), lambda: next(stream)):
        with pytest.raises(DataError, match=re.escape(f"The {said} {broken} cannot be read (")):
            read()
    stream.close()
    skip = Options(broken="skip")
    found, streams = load(name, options=skip), Streams(name, options=skip)
    assert len(found.train["label"]) == streams.examples == 4
    np.testing.assert_array_equal(found.train["label"], expected(found.train["image"]))
    for about in (found.about, streams.about):
        assert "1 broken image is left out" in about
