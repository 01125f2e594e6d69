"""Damaged images and archives of one's own: read, or refused in a sentence that names the file."""

import io

import numpy as np
import pytest
from hammered import assert_one_sentence, damaged
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.data import sources
from experiments.data.items import Options
from experiments.data.streams import Streams

NOISE = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
MODES = {"jpg": "RGB", "png": "RGBA", "webp": "RGB", "bmp": "P", "tiff": "I;16"}
SKIP = Options(broken="skip")


def encoded(suffix):
    file = io.BytesIO()
    image = Image.fromarray(NOISE)
    if suffix == "tiff":
        image = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert(MODES[suffix])
    image.save(file, format={"jpg": "jpeg"}.get(suffix, suffix))
    return file.getvalue()


CONTENT = {suffix: encoded(suffix) for suffix in MODES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three sound images, beside which another is put."""
    root = tmp_path_factory.mktemp("folder")
    for path in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(CONTENT["png"])
    return root


def assert_images(split, classes):
    assert len(split["image"]) == len(split["label"]) > 0
    assert 0 <= split["label"].min() <= split["label"].max() < classes


@given(data=st.data())
def test_a_damaged_image_is_read_or_named(folder, data):
    suffix = data.draw(st.sampled_from(sorted(MODES)))
    path = folder / "train" / "cat" / f"2.{suffix}"
    path.write_bytes(data.draw(damaged(CONTENT[suffix])))
    name = f"folder:{folder}"
    try:
        found = sources.load(name, image_size=4)
    except sources.DataError as error:
        assert_one_sentence(error, str(path))
        streams = Streams(name, image_size=4, options=SKIP)
        assert streams.examples == 2
        assert "1 broken image is left out" in streams.about
    else:
        assert_images(found.train, 2)
        assert len(found.train["label"]) == 3
    finally:
        path.unlink()


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


ARCHIVE = archive(
    train_image=NOISE[None].repeat(4, 0),
    train_label=np.arange(4) % 2,
    test_image=NOISE[None].repeat(2, 0),
    test_label=np.arange(2),
    class_names=np.array(["cat", "dog"]),
)
ARRAYS = st.builds(
    lambda shape, dtype, fill: np.full(shape, fill).astype(dtype),
    st.lists(st.integers(0, 3), max_size=5),
    st.sampled_from(["u1", "i8", "u8", "f4", "f8", "f2", "?", "c8", "U2", "S1", "M8[s]", "O"]),
    st.sampled_from([0, 1, 2, 200]),
)
KEYS = ("image", "label", "train_image", "train_label", "test_image", "test_label", "val_image")


def assert_read_or_refused(path):
    try:
        found = sources.load(f"npz:{path}", validation=True)
    except sources.DataError as error:
        assert_one_sentence(error, path.name)
    else:
        for split in (found.train, found.test):
            assert_images(split, found.classes)


@given(content=damaged(ARCHIVE))
def test_a_damaged_archive_is_read_or_named(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    assert_read_or_refused(path)


@given(
    arrays=st.dictionaries(st.sampled_from((*KEYS, "val_label", "class_names")), ARRAYS, max_size=6)
)
def test_an_archive_of_other_arrays_is_read_or_named(tmp_path_factory, arrays):
    path = tmp_path_factory.getbasetemp() / "other.npz"
    path.write_bytes(archive(**arrays))
    assert_read_or_refused(path)
