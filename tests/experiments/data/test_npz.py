"""NumPy archives, in memory and as streams, and what is said of them."""

import io
import zipfile

import numpy as np
import pytest

from experiments.data.sources import DataError, MissingDataError, Options, load
from experiments.data.streams import Streams

IMAGE = np.arange(10 * 4 * 4 * 3, dtype=np.uint8).reshape(10, 4, 4, 3)
LABEL = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
PAIR = {"image": IMAGE, "label": LABEL}


@pytest.fixture
def archive(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return f"npz:{tmp_path / 'own.npz'}"

    return write


@pytest.mark.parametrize("scored", ["test", "validation"])
def test_splits_that_are_set_apart(archive, scored):
    splits = {f"{scored}_image": IMAGE[:3], f"{scored}_label": LABEL[:3]}
    found = load(archive(train_image=IMAGE, train_label=LABEL[:, None], **splits))
    np.testing.assert_array_equal(found.train["image"], IMAGE)
    np.testing.assert_array_equal(found.train["label"], LABEL)
    np.testing.assert_array_equal(found.test["image"], IMAGE[:3])
    assert (found.scored, found.class_names) == (scored, ("0", "1"))
    assert found.train["label"].dtype == np.int32


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_a_validation_split_beside_the_test_split(archive, validation):
    splits = {
        f"{split}_{key}": value[rows]
        for split, rows in (
            ("train", slice(None)),
            ("test", slice(5, 8)),
            (validation, slice(0, 10, 9)),
        )
        for key, value in PAIR.items()
    }
    name = archive(**splits, ids=np.arange(3))
    found = load(name, validation=True)
    assert found.scored == "test"
    np.testing.assert_array_equal(found.test["image"], IMAGE[5:8])
    np.testing.assert_array_equal(found.validation["image"], IMAGE[[0, 9]])
    assert found.validation["label"].tolist() == [0, 1]
    assert "10 training, 3 test and 2 validation images" in found.about
    assert "Left out of the arrays in " in found.about
    assert ": 'ids'." in found.about
    streams = Streams(name, image_size=4, options=Options(resize="whole"), validation=True)
    (image, label, *_), *_ = streams.validation(2)
    np.testing.assert_array_equal(image, found.validation["image"])
    np.testing.assert_array_equal(label, [0, 1])
    assert load(name).validation is None


def test_one_pair_is_divided_by_class(archive):
    found = load(archive(**PAIR, class_names=np.array(["cat", "dog"])))
    assert np.bincount(found.test["label"]).tolist() == [1, 1]
    assert np.bincount(found.train["label"]).tolist() == [5, 3]
    assert found.class_names == ("cat", "dog")
    assert "cat: 5 training, 1 test" in found.about


def test_other_keys_grey_images_and_floats(archive):
    name = archive(x=(IMAGE[..., 0] / 255), y=LABEL)
    found = load(name, label="y", options=Options(image="x"))
    assert found.train["image"].shape == (8, 4, 4, 1)
    assert found.train["image"].dtype == np.float32


def test_images_are_resized(archive):
    assert load(archive(**PAIR), image_size=2).train["image"].shape == (8, 2, 2, 3)


def test_a_stream_has_the_images_of_memory(archive):
    name = archive(**PAIR)
    streams = Streams(name, image_size=4, options=Options(resize="whole"))
    image, label, index, _ = next(iter(streams.test(2)))
    found = load(name)
    np.testing.assert_array_equal(image, found.test["image"])
    np.testing.assert_array_equal(label, found.test["label"])
    assert index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": IMAGE}, "has the arrays 'image', but no 'label'"),
        ({"train_label": LABEL}, "but no 'train_image'"),
        ({**PAIR, "test_image": IMAGE}, "has a test split, but 'image' and 'label' of no split: c"),
        ({"train_image": IMAGE, "train_label": LABEL, "val_label": LABEL}, "but no 'val_image'"),
        ({"val_label": LABEL, "validation_label": LABEL}, "'val' and 'validation', which both"),
        ({"x": IMAGE}, "has the arrays 'x', but must have the arrays 'train_image'"),
        ({**PAIR, "label": LABEL[:4]}, "has 10 images in 'image', but 4 labels"),
        ({**PAIR, "label": LABEL - 1}, "'label' in .* goes from -1 to 0, but classes"),
        ({**PAIR, "label": LABEL / 2}, "whole numbers, one for each image, not float64"),
        ({**PAIR, "label": np.eye(2, dtype=int)[LABEL]}, r"not int64 \[10, 2\]"),
        ({**PAIR, "label": LABEL * 0}, "must be at least two classes"),
        ({**PAIR, "label": LABEL + 1, "class_names": np.array(["a", "b"])}, "names 2 classes"),
        ({"image": IMAGE[:0], "label": LABEL[:0]}, "has no images"),
        ({**PAIR, "image": IMAGE.astype(int)}, "must be uint8 .* not int64"),
        ({**PAIR, "image": np.moveaxis(IMAGE.repeat(2, 2), 3, 1)}, "transpose"),
        ({**PAIR, "image": IMAGE.astype(float)}, r"go from .* but floats must be in \[0, 1\]"),
        ({**PAIR, "label": np.array([None] * 10)}, "holds Python objects"),
    ],
)
def test_arrays_that_do_not_fit(archive, arrays, message):
    with pytest.raises(DataError, match=message):
        load(archive(**arrays))


def test_floats_are_neither_resized_nor_streamed(archive):
    name = archive(**PAIR | {"image": IMAGE / 255})
    with pytest.raises(DataError, match="are floats, which are not resized"):
        load(name, image_size=2)
    with pytest.raises(DataError, match=r"must be uint8.*config\.data='memory'"):
        Streams(name)


@pytest.mark.parametrize("damage", ["text", "cut", "flipped", "array"])
def test_files_that_are_no_archives(tmp_path, damage):
    path = tmp_path / "own.npz"
    np.savez(path, **PAIR)
    content = path.read_bytes()
    flipped = content.replace(IMAGE.tobytes()[:50], bytes(50))
    path.write_bytes({"text": b"text", "cut": content[:300], "flipped": flipped}.get(damage, b""))
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, IMAGE)
    with pytest.raises(DataError, match=r"own\.npz' cannot be read as an archive"):
        load(f"npz:{path}")


@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_one_split_of_floats_is_no_stream(archive, split):
    arrays = {f"{each}_label": LABEL for each in ("train", "test", "val")}
    arrays |= {f"{each}_image": IMAGE for each in ("train", "test", "val")}
    name = archive(**arrays | {f"{split}_image": IMAGE / 255})
    with pytest.raises(DataError, match=r"are float32 \[4, 4, 3\], but those of a stream"):
        Streams(name, image_size=4, validation=True)


def test_of_a_long_reason_the_beginning_is_said(tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    np.savez(path, **PAIR)
    content = path.read_bytes().replace(b"image.npy", b"other.npy", 1)
    place = content.index(b"other.npy") - 4  # the length of the name
    path.write_bytes(content[:place] + b"\xff\x01" + content[place + 2 :])
    with pytest.raises(DataError, match=r"cannot be read as an archive .*File name in") as caught:
        load(f"npz:{path}")
    assert len(str(caught.value)) < 600


def test_a_size_that_is_damaged_is_no_lack_of_memory(tmp_path):
    path, array = tmp_path / "own.npz", io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10, 4, 4, 3 * 10**12)}
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("image.npy", array.getvalue() + IMAGE.tobytes())
    with pytest.raises(DataError, match=r"own\.npz' cannot be read as an archive"):
        load(f"npz:{path}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="There is no file"):
        load(f"npz:{tmp_path}/own.npz")


def test_a_folder_of_arrays_is_the_same(tmp_path, archive):
    arrays = {f"{split}_{key}": x for split in ("train", "test") for key, x in PAIR.items()}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "class_names.npy", np.array(["cat", "dog"]))
    found, other = load(f"npz:{tmp_path}"), load(archive(**arrays))
    assert found.class_names == ("cat", "dog")
    for ours, theirs in ((found.train, other.train), (found.test, other.test)):
        for key in PAIR:
            np.testing.assert_array_equal(ours[key], theirs[key])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no arrays, but must have"):
        load(f"npz:{tmp_path / 'empty'}")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_may_have_a_range_of_their_own(tmp_path, archive, kind):
    image = ((IMAGE - 200.0) / 100).astype(kind)
    arrays = {"train_image": image, "train_label": LABEL, "test_image": image, "test_label": LABEL}
    arrays |= {"image_range": np.array([-3, 3]), "train_source": np.arange(10)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    for name in (f"npz:{tmp_path}", archive(**arrays)):
        found = load(name)
        np.testing.assert_allclose(found.train["image"], image, rtol=1e-6)
        assert found.train["image"].dtype == np.float32
        assert found.source.tolist() == list(range(10))
        assert "Left out" not in found.about
    outside = archive(**arrays | {"image_range": np.array([-1, 1])})
    with pytest.raises(DataError, match=r"go from -2 to .*, but floats must be in \[-1, 1\]"):
        load(outside)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"image_range": np.array([1, 1])}, r"'image_range' in .* but it is \[1, 1\]"),
        ({"train_source": np.arange(9)}, r"one for each of 10 training images, not int64 \[9\]"),
        ({"train_source": np.ones(10)}, r"'train_source' in .* not float64"),
    ],
)
def test_what_stands_beside_the_images_is_checked(archive, arrays, says):
    with pytest.raises(DataError, match=says):
        load(archive(train_image=IMAGE, train_label=LABEL, **arrays))
