"""Images of many sizes, floats and masks: what is read of them, and what is said of what is not."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_imagenet
import tiny_stored
from PIL import Image
from prepared_data import prepared
from tiny_stored import png

from experiments.data.sources import DataError, Options, describe_test, load, load_test
from experiments.data.streams import Streams

LABEL = {"label": tfds.features.ClassLabel(names=["cat", "dog", "owl"])}
RNG = np.random.default_rng(0)


def stored(folder, features, train, test=None):
    splits = {"train": train, "test": train if test is None else test}
    return tiny_stored.prepare(folder, features, splits)


# Images of different sizes.


@pytest.fixture(scope="module")
def many_sizes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_imagenet.prepare(folder)
    return folder


def test_images_of_many_sizes_become_what_a_stream_scores(many_sizes):
    data = load("tiny_imagenet", many_sizes, 16)
    image, label, *_ = next(iter(Streams("tiny_imagenet", many_sizes, image_size=16).test(7)))
    np.testing.assert_array_equal(data.test["image"], image)
    np.testing.assert_array_equal(data.test["label"], label)
    assert data.train["image"].shape == (20, 16, 16, 3)
    assert describe_test("tiny_imagenet", many_sizes, 16).shape == (16, 16, 3)
    np.testing.assert_array_equal(load_test("tiny_imagenet", many_sizes, 16)["image"], image)


@pytest.mark.parametrize("image_size", [None, 0])
def test_without_a_size_they_are_refused(many_sizes, image_size):
    with pytest.raises(DataError, match=r"are of different sizes, such as .* in config\.image_siz"):
        load("tiny_imagenet", many_sizes, image_size)


def test_splits_of_two_sizes_are_refused(tmp_path):
    features = {"image": tfds.features.Image(), **LABEL}
    small, large = ([{"image": png(np.zeros((n, 6, 3), np.uint8)), "label": 1}] for n in (4, 5))
    stored(tmp_path, features, small, large)
    with pytest.raises(DataError, match=r"train on are \[4, 6, 3\], .* \[5, 6, 3\]: name one size"):
        load("tiny_stored", tmp_path)
    assert load("tiny_stored", tmp_path, 4).test["image"].shape == (1, 4, 4, 3)


def test_one_size_that_no_feature_states_is_read_as_it_is(tmp_path):
    image = RNG.integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    grey = np.repeat(image[:1, ..., :1], 3, -1)
    features = {"image": tfds.features.Image(), **LABEL}
    files = [png(grey[0, ..., 0]), *map(png, image)]
    stored(tmp_path, features, [{"image": file, "label": 2} for file in files])
    found = load("tiny_stored", tmp_path)
    np.testing.assert_array_equal(found.train["image"], np.concatenate([grey, image]))
    assert found.class_names == ("cat", "dog", "owl")
    assert describe_test("tiny_stored", tmp_path) == ((4, 6, 3), 3, found.class_names)


def test_a_size_that_all_have_changes_nothing_and_grey_stays_grey(tmp_path):
    whole = load("digits", tmp_path)
    np.testing.assert_array_equal(load("digits", tmp_path, 8).train["image"], whole.train["image"])
    assert load("digits", tmp_path, 12).test["image"].shape == (510, 12, 12, 1)
    assert describe_test("digits", tmp_path, 12).shape == (12, 12, 1)


@pytest.mark.parametrize("read", [load, load_test, describe_test])
def test_a_negative_size(read, tmp_path):
    with pytest.raises(ValueError, match="must not be negative, but is -1"):
        read("digits", tmp_path, -1)


# Floats.


def float_features():
    return {"image": tfds.features.Tensor(shape=(4, 5, 3), dtype=np.float32), **LABEL}


def test_floats_are_read_bit_by_bit(tmp_path):
    image = RNG.random((6, 4, 5, 3), np.float32)
    image[0, 0, 0] = 0, 1, 0.5
    stored(tmp_path, float_features(), [{"image": x, "label": 0} for x in image])
    found = load("tiny_stored", tmp_path)
    assert found.train["image"].dtype == np.float32
    np.testing.assert_array_equal(found.train["image"], image)
    assert found.train["label"].dtype == np.int32
    with pytest.raises(DataError, match="does not have a uint8 'image' of one or three channels"):
        Streams("tiny_stored", tmp_path)


def test_float_images_as_tfds_encodes_them(tmp_path):
    # TFDS writes the four bytes of each as a pixel, but only with TensorFlow.
    image = RNG.random((3, 4, 5, 1), np.float32)
    features = {"image": tfds.features.Image(shape=(4, 5, 4)), **LABEL}
    files = [png(x.view(np.uint8)) for x in image]
    folder = stored(tmp_path, features, [{"image": file, "label": 0} for file in files])
    path = folder / "features.json"
    text = path.read_text().replace("uint8", "float32")
    start, _, end = text.rpartition('"4"')
    path.write_text(f'{start}"1"{end}')
    np.testing.assert_array_equal(load("tiny_stored", tmp_path).train["image"], image)


@pytest.mark.parametrize(
    ("value", "said"), [(1.5, "0 to 1.5"), (-0.25, "-0.25 to 0"), (np.nan, "nan to nan")]
)
def test_floats_beyond_the_unit_interval(tmp_path, value, said):
    image = np.zeros((4, 5, 3), np.float32)
    image[1, 1, 1] = value
    stored(tmp_path, float_features(), [{"image": image, "label": 0}])
    with pytest.raises(DataError, match=rf"images in the train .* go from {said}, but floats must"):
        load("tiny_stored", tmp_path)


def test_floats_are_not_resized(tmp_path):
    stored(tmp_path, float_features(), [{"image": np.zeros((4, 5, 3), np.float32), "label": 0}])
    with pytest.raises(DataError, match=r"floats, which are not resized: store them as 4 x 4"):
        load("tiny_stored", tmp_path, 4)


# Masks.


def mask_features(**options):
    classes = tfds.features.LabeledImage(labels=["sky", "road"], encoding_format="png", **options)
    return {"image": tfds.features.Image(), "segmentation_label": classes}


def masked(image, mask):
    return {"image": png(image), "segmentation_label": png(mask)}


def random_masks(count, height, width):
    image = RNG.integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    return image, RNG.choice([0, 1, 255], (count, height, width)).astype(np.uint8)


def load_masks(folder, image_size=0):
    return load("tiny_stored", folder, image_size, label="segmentation_label")


def test_masks_are_read_as_they_are(tmp_path):
    image, mask = random_masks(3, 4, 6)
    stored(tmp_path, mask_features(), [masked(*pair) for pair in zip(image, mask, strict=True)])
    found = load_masks(tmp_path)
    np.testing.assert_array_equal(found.train["image"], image)
    np.testing.assert_array_equal(found.train["label"], mask)
    assert found.train["label"].dtype == np.uint8
    assert (found.classes, found.class_names, found.scored) == (2, ("sky", "road"), "test")
    test = load_test("tiny_stored", tmp_path, label="segmentation_label")
    np.testing.assert_array_equal(test["label"], mask)
    with pytest.raises(DataError, match=r"does not have a class 'label', or a mask of classes"):
        load("tiny_stored", tmp_path)


def test_masks_of_numbered_colours_are_those_numbers(tmp_path):
    image, mask = random_masks(1, 4, 6)
    coloured = Image.fromarray(mask[0])
    coloured.putpalette(RNG.permutation(768).astype(np.uint8).tolist())
    assert coloured.mode == "P"
    file = io.BytesIO()
    coloured.save(file, format="png")
    example = {"image": png(image[0]), "segmentation_label": file.getvalue()}
    stored(tmp_path, mask_features(), [example])
    np.testing.assert_array_equal(load_masks(tmp_path).train["label"], mask)


def test_a_mask_is_cropped_as_its_image(tmp_path):
    """Where the image is white the mask is 1: so it is in the crop, but for a blurred border."""
    examples = []
    for height, width in ((40, 60), (80, 50)):
        mask = np.zeros((height, width), np.uint8)
        mask[height // 3 :, width // 2 :] = 1
        mask[:, : width // 4] = 255
        examples.append(masked(np.repeat(mask[..., None], 3, -1) % 255 * 255, mask))
    stored(tmp_path, mask_features(), examples)
    found = load_masks(tmp_path, 20)
    image, label = found.train["image"][..., 0], found.train["label"]
    assert label.shape == (2, 20, 20)
    assert set(label.ravel()) <= {0, 1, 255}
    assert (label == 1).any((1, 2)).all()
    sure = (image == 0) | (image == 255)
    assert sure.mean() > 0.7
    np.testing.assert_array_equal(label[sure] == 1, image[sure] == 255)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((4, 6), 2), r"labels .* from 2 to 2, but must be from 0 to 1, or 255 where"),
        (np.zeros((6, 4)), r"Example 0 in the train .* image of 4 x 6 pixels, but a mask of 6 x 4"),
        (np.zeros((4, 6, 3)), r"it is not a mask of one channel of 8 bits, but of mode RGB"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, mask, message):
    image, _ = random_masks(1, 4, 6)
    stored(tmp_path, mask_features(), [masked(image[0], mask.astype(np.uint8))])
    with pytest.raises(DataError, match=message):
        load_masks(tmp_path)


def test_masks_of_nothing_but_ignored_pixels_are_refused(tmp_path):
    image, mask = random_masks(2, 4, 6)
    ignored = masked(image[0], np.full((4, 6), 255, np.uint8))
    stored(tmp_path / "one", mask_features(), [ignored, masked(image[1], mask[1])])
    assert (load_masks(tmp_path / "one").train["label"][0] == 255).all()
    stored(tmp_path / "all", mask_features(), [ignored])
    with pytest.raises(DataError, match=r"All pixels of the masks in the train split .* are 255"):
        load_masks(tmp_path / "all")


# Stored data as they are found in the world.


def test_camvid():
    folder = prepared("camvid_small")
    data = load("camvid_small", folder, label="segmentation_label")
    assert data.train["image"].shape == (367, 180, 240, 3)
    assert (data.train["label"].shape, data.scored) == ((367, 180, 240), "test")
    assert data.test["label"].shape == (233, 180, 240)
    assert set(np.unique(data.train["label"])) == {*range(11), 255}
    names = (folder / "camvid_small/1.0.0/segmentation_label.labels.txt").read_text().split()
    assert data.class_names == tuple(names)


def test_a_set_that_has_a_validation_split_alone_is_scored_on_it():
    data = load("isic2017_256_jpeg", prepared("isic2017_256_jpeg"), 32)
    assert (data.scored, data.classes) == ("validation", 3)
    assert data.class_names == ("nevus", "melanoma", "seborrheic_keratosis")
    assert (len(data.train["label"]), data.test["image"].shape) == (2000, (150, 32, 32, 3))


def test_another_label_of_the_same_images():
    folder = prepared("cifar100_jpeg")
    data = load_test("cifar100_jpeg", folder, label="coarse_label")
    assert np.bincount(data["label"]).tolist() == [500] * 20
    assert describe_test("cifar100_jpeg", folder, label="coarse_label").classes == 20


# Other keys, and the whole image.


def test_images_and_labels_under_other_keys(tmp_path):
    features = {"img": tfds.features.Image(shape=(8, 8, 3)), "fine_label": LABEL["label"]}
    image = RNG.integers(0, 255, (3, 8, 8, 3)).astype(np.uint8)
    stored(tmp_path, features, [{"img": png(x), "fine_label": i} for i, x in enumerate(image)])
    options = Options(image="img")
    found = load("tiny_stored", tmp_path, label="fine_label", options=options)
    np.testing.assert_array_equal(found.train["image"], image)
    assert found.train["label"].tolist() == [0, 1, 2]
    given = ("tiny_stored", tmp_path, None, "fine_label", options)
    assert describe_test(*given).shape == load_test(*given)["image"].shape[1:]
    streams = Streams(*given[:2], image_size=4, label="fine_label", options=options)
    assert next(iter(streams.test(3)))[1].tolist() == [0, 1, 2]
    for read in (load, Streams):
        with pytest.raises(DataError, match=r"does not have .*'image'.* config\.image_key and"):
            read("tiny_stored", tmp_path)


def test_the_whole_of_images_and_masks(tmp_path):
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.LabeledImage(labels=2, shape=(None, None, 1)),
    }
    image, mask = np.zeros((4, 8, 3), np.uint8), np.zeros((4, 8), np.uint8)
    image[:, 4:], mask[:, 4:] = 255, 1
    stored(tmp_path, features, [{"image": png(image), "label": png(mask)}] * 2)
    found = load("tiny_stored", tmp_path, 2, options=Options(resize="whole")).train
    np.testing.assert_array_equal(found["label"][0], [[0, 1], [0, 1]])
    assert (np.diff(found["image"][0, :, :, 0].astype(int)) > 100).all()
