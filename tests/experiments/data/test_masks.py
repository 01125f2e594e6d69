"""Masks in streams, from prepared data sets: as they are stored, with one seed's images and order.

Masks in memory are in `test_arrays.py`, and streams of classes in `test_streams.py`.
"""

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_stored
from PIL import Image
from tiny_stored import png

from experiments.data import masks
from experiments.data.sources import DataError, Options, describe_test, load, load_test
from experiments.data.streams import Streams

HEIGHT, WIDTH = 4, 6
LABEL = "segmentation_label"
# From cityscapesscripts/helpers/labels.py: name, id, train id.
OFFICIAL = """
road 7 0, sidewalk 8 1, building 11 2, wall 12 3, fence 13 4, pole 17 5, traffic_light 19 6,
traffic_sign 20 7, vegetation 21 8, terrain 22 9, sky 23 10, person 24 11, rider 25 12, car 26 13,
truck 27 14, bus 28 15, train 31 16, motorcycle 32 17, bicycle 33 18
"""


def features(shape=(HEIGHT, WIDTH)):
    classes = tfds.features.LabeledImage(labels=["sky", "road", "tree"], shape=(*shape, 1))
    return {"image": tfds.features.Image(shape=(*shape, 3)), LABEL: classes}


def drawn(count, seed=0, values=(0, 1, 2, 255), shape=(HEIGHT, WIDTH)):
    """Images whose first pixel tells their number, and their masks."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, *shape, 3)).astype(np.uint8)
    image[:, 0, 0] = np.arange(count)[:, None]
    return image, rng.choice(values, (count, *shape)).astype(np.uint8)


def examples(image, mask, image_key="image"):
    both = zip(image, mask, strict=True)
    return [{image_key: png(x), LABEL: png(y)} for x, y in both]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Ten images to train on and three to test on; the folder, and the arrays."""
    folder, train, test = tmp_path_factory.mktemp("masks"), drawn(10), drawn(3, 1)
    splits = {"train": examples(*train), "test": examples(*test)}
    tiny_stored.prepare(folder, features(), splits)
    return folder, train, test


def opened(folder, **options):
    return Streams("tiny_stored", folder, label=LABEL, **options)


def taken(stream, count):
    batches = [next(stream) for _ in range(count)]
    stream.close()
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def test_images_and_masks_are_streamed_as_they_are_stored(stored):
    folder, (image, mask), _ = stored
    streams = opened(folder)
    assert (streams.dense, streams.shape) == (True, (HEIGHT, WIDTH, 3))
    assert (streams.classes, streams.class_names) == (3, ("sky", "road", "tree"))
    pixels, label, index = taken(streams.train(4, seed=0), 5)
    assert (label.dtype, label.shape) == (np.uint8, (20, HEIGHT, WIDTH))
    assert sorted(index[:10]) == sorted(index[10:]) == list(range(10))
    np.testing.assert_array_equal(pixels, image[index])
    np.testing.assert_array_equal(label, mask[index])


def test_the_second_stream_has_masks_of_ignored_pixels_alone(stored):
    folder, (image, _), _ = stored
    pixels, label, index = taken(opened(folder).unlabeled(5, seed=0), 2)
    np.testing.assert_array_equal(pixels, image[index])
    assert (label == 255).all()
    assert label.shape == (10, HEIGHT, WIDTH)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_scored_is_every_mask_and_padding_of_weight_0(stored, workers):
    folder, _, (image, mask) = stored
    (pixels, label, index, weight), (more, *_, rest) = opened(folder, workers=workers).test(2)
    assert index.tolist() == [0, 1]
    np.testing.assert_array_equal(pixels, image[:2])
    np.testing.assert_array_equal(label, mask[:2])
    np.testing.assert_array_equal(more[0], image[2])
    assert (weight.tolist(), rest.tolist()) == ([1, 1], [1, 0])


def test_an_image_size_is_refused(stored):
    with pytest.raises(DataError, match=r"has masks, and is streamed .*image_size=0, not 64"):
        opened(stored[0], image_size=64)


@pytest.mark.parametrize("odd", ["image", "mask"])
def test_an_image_or_a_mask_of_another_size_is_named(tmp_path, odd):
    image, mask = drawn(3)
    each = examples(image, mask)
    larger, its = (x[0] for x in drawn(1, shape=(HEIGHT + 1, WIDTH)))
    each[2] |= {"image": png(larger)} if odd == "image" else {LABEL: png(its)}
    tiny_stored.prepare(tmp_path, features((None, None)), {"train": each, "test": each[:1]})
    streams = opened(tmp_path)
    assert streams.shape == (HEIGHT, WIDTH, 3)
    said = rf"The {odd} of example 2 of the train split of 'tiny_stored' is of 5 x 6 pixels, but"
    with pytest.raises(DataError, match=said):
        taken(streams.train(3, seed=0), 1)


def test_a_class_that_is_not_there_is_refused_with_the_image(tmp_path):
    image, mask = drawn(3)
    mask[1, 2, 3] = 7
    each = examples(image, mask)
    tiny_stored.prepare(tmp_path, features(), {"train": each, "test": each[:1]})
    said = r"example 1 of its train split: a pixel is of the class 7, but classes are from 0 to 2, "
    with pytest.raises(DataError, match=said):
        taken(opened(tmp_path).train(3, seed=0), 1)
    assert len(taken(opened(tmp_path).unlabeled(3, seed=0), 1)[0]) == 3


def test_a_mask_that_is_none_is_named(tmp_path):
    image, mask = drawn(2)
    each = examples(image, mask)
    each[1][LABEL] = png(image[1])
    tiny_stored.prepare(tmp_path, features(), {"train": each, "test": each[:1]})
    said = r"example 1 of its train split: it is not a mask of one channel .* mode RGB"
    with pytest.raises(DataError, match=said):
        taken(opened(tmp_path).train(2, seed=0), 1)


# Cityscapes by TFDS's name, whose features do not say what the numbers in its masks are.


def test_the_classes_of_cityscapes_are_the_official_ones():
    rows = [each.split() for each in OFFICIAL.replace("\n", " ").split(",")]
    expected = {int(number): int(own) for _, number, own in rows}
    assert masks.CITYSCAPES.class_names == tuple(name.replace("_", " ") for name, *_ in rows)
    assert masks.CITYSCAPES.table.tolist() == [expected.get(i, 255) for i in range(256)]


def city_features():
    return {
        "image_id": tfds.features.Text(),
        "image_left": tfds.features.Image(shape=(HEIGHT, WIDTH, 3)),
        LABEL: tfds.features.Image(shape=(HEIGHT, WIDTH, 1)),
    }


@pytest.fixture
def city(tmp_path):
    """Cityscapes as TFDS has it: its test masks hold ids that are ignored alone."""
    train, val = drawn(4, 2, range(34)), drawn(2, 3, range(34))
    train[1][0, 0, :4] = 7, 0, 8, 1  # a number that is also another's class
    splits = {"train": train, "validation": val, "test": (val[0], np.full_like(val[1], 3))}
    each = {
        name: [x | {"image_id": "a"} for x in examples(*pair, image_key="image_left")]
        for name, pair in splits.items()
    }
    tiny_stored.prepare(tmp_path, city_features(), each, tiny_stored.Cityscapes)
    return tmp_path, train, val


def train_ids(mask):
    """Pixel by pixel."""
    own = {
        int(number): int(train_id)
        for _, number, train_id in (each.split() for each in OFFICIAL.split(","))
    }
    return np.vectorize(lambda number: own.get(int(number), 255))(mask)


def test_cityscapes_by_name_in_memory_and_as_a_stream(city):
    folder, (image, mask), (scored, its) = city
    how = {"label": LABEL, "options": Options(image="image_left")}
    found = load("cityscapes", folder, **how)
    assert (found.classes, found.class_names[13], found.scored) == (19, "car", "validation")
    assert found.train["label"][0, 0, :4].tolist() == [0, 255, 1, 255]
    np.testing.assert_array_equal(found.train["label"], train_ids(mask))
    np.testing.assert_array_equal(found.test["label"], train_ids(its))
    assert found.train["label"].dtype == np.uint8
    streams = Streams("cityscapes", folder, **how)
    assert (streams.scored, streams.class_names) == ("validation", found.class_names)
    pixels, label, index = taken(streams.train(4, seed=0), 1)
    np.testing.assert_array_equal(pixels, image[index])
    np.testing.assert_array_equal(label, train_ids(mask)[index])
    np.testing.assert_array_equal(load_test("cityscapes", folder, **how)["image"], scored)
    described = describe_test("cityscapes", folder, **how)
    assert described == ((HEIGHT, WIDTH, 3), 19, found.class_names)


def test_cityscapes_resized_has_the_classes_of_the_nearest_pixels(city):
    folder, (_, mask), _ = city
    how = {"label": LABEL, "options": Options(image="image_left", resize="whole")}
    label = load("cityscapes", folder, 2, **how).train["label"]
    small = np.asarray(Image.fromarray(mask[0]).resize((2, 2), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(label[0], train_ids(small))


def test_an_image_without_classes_is_no_mask_elsewhere(tmp_path):
    each = [{"image_id": "a", **x} for x in examples(*drawn(2), image_key="image_left")]
    tiny_stored.prepare(tmp_path, city_features(), {"train": each, "test": each})
    for read in (load, Streams):
        with pytest.raises(DataError, match="or a mask of classes"):
            read("tiny_stored", tmp_path, label=LABEL, options=Options(image="image_left"))
