"""Image files of every kind, against what a person sees in them."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments.data import decoding

GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
COLOURS = np.stack([GREY, 255 - GREY, GREY // 2], -1)


def encoded(image, form="png", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def seen(content):
    image = decoding.opened(content)
    pixels = np.asarray(image)
    found = decoding.outline(content)
    assert found == (*pixels.shape[:2], 1 if image.mode == "L" else 3)
    return pixels


@pytest.mark.parametrize("form", ["png", "bmp", "tiff", "webp"])
def test_formats_without_loss_keep_colours(form):
    options = {"lossless": True} if form == "webp" else {}
    np.testing.assert_array_equal(seen(encoded(Image.fromarray(COLOURS), form, **options)), COLOURS)


@pytest.mark.parametrize("form", ["png", "bmp", "tiff", "jpeg"])
def test_grey_stays_grey(form):
    assert np.abs(seen(encoded(Image.fromarray(GREY), form)).astype(int) - GREY).max() <= 4


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_16_bits_are_scaled_to_8(form):
    deep = (GREY.astype(np.uint16) * 257) + 100  # not half of 257
    np.testing.assert_array_equal(seen(encoded(Image.fromarray(deep), form)), GREY)


def test_floats_are_of_zero_to_one():
    content = encoded(Image.fromarray((GREY / 255).astype(np.float32)), "tiff")
    np.testing.assert_array_equal(seen(content), GREY)
    with pytest.raises(ValueError, match="its numbers go from 0 to 230, not from 0 to 1"):
        decoding.opened(encoded(Image.fromarray(GREY.astype(np.float32)), "tiff"))


def test_black_and_white():
    content = encoded(Image.fromarray(GREY > 100))
    np.testing.assert_array_equal(seen(content), np.where(GREY > 100, 255, 0))


@pytest.mark.parametrize(("alpha", "share"), [(255, 1.0), (51, 0.2), (0, 0.0)])
def test_what_is_transparent_lies_over_white(alpha, share):
    image = np.concatenate([COLOURS, np.full_like(GREY, alpha)[..., None]], -1)
    expected = share * COLOURS + (1 - share) * 255
    assert np.abs(seen(encoded(Image.fromarray(image))) - expected).max() <= 1
    grey = np.stack([GREY, np.full_like(GREY, alpha)], -1)
    found = seen(encoded(Image.fromarray(grey, "LA")))
    assert np.abs(found - (share * GREY + (1 - share) * 255)).max() <= 1


def test_a_palette_has_the_colours_it_names():
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    expected = [[[255, 0, 0], [0, 255, 0]], [[0, 255, 0], [0, 0, 255]]]
    np.testing.assert_array_equal(seen(encoded(image)), expected)
    expected[0][0] = [255, 255, 255]
    np.testing.assert_array_equal(seen(encoded(image, transparency=0)), expected)


def test_cmyk_as_adobe_writes_it():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan: red
    found = seen(encoded(image, "jpeg", quality=100))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1)), (8, np.rot90)],
)
def test_images_are_turned_as_the_camera_was(form, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(GREY), form, exif=exif)
    assert np.abs(seen(content).astype(int) - turn(GREY)).max() <= 4


def test_a_jpeg_is_not_decoded_before_it_is_cropped():
    image = decoding.opened(encoded(Image.fromarray(COLOURS), "jpeg"))
    assert image.tile


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "it is empty"), (b"no image", "it is not an image that Pillow")]
)
@pytest.mark.parametrize("read", [decoding.outline, decoding.opened])
def test_what_is_no_image(read, content, why):
    with pytest.raises(OSError, match=why):
        read(content)


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_not_converted(channels):
    pixels = np.repeat(GREY[..., None], channels, -1)
    assert decoding.outline(pixels) == (4, 6, channels)
    np.testing.assert_array_equal(np.asarray(decoding.opened(pixels)), np.squeeze(pixels))
