"""From an image file of any kind to grey or RGB pixels of 8 bits, as a person would see it."""

import io
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

Pixels = bytes | np.ndarray  # a file's content, or pixels [H, W, K]

BACKGROUND = "white"  # what shows where an image is transparent
_GREY = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")
_DEEP = ("F", "I", "I;16", "I;16B", "I;16L", "I;16N")
_TURNED = 5  # from this EXIF orientation on, height and width change places


class Outline(NamedTuple):
    """What is known of an image before it is decoded.

    Attributes:
      height: in pixels, as it is seen.
      width: likewise.
      channels: 1 for a grey image, 3 for one of colours; those of an array.
    """

    height: int
    width: int
    channels: int


def outline(pixels: Pixels) -> Outline:
    """Reads an image's size and colours, without decoding it.

    Raises:
      OSError: if Pillow does not know the file.

    Example:
      `outline(np.zeros((4, 6, 3), np.uint8)) == (4, 6, 3)`
    """
    if isinstance(pixels, np.ndarray):
        return Outline(*pixels.shape)
    image = _read(pixels)
    width, height = image.size
    if _orientation(image) >= _TURNED and image.format != "TIFF":  # Pillow has done so there
        width, height = height, width
    return Outline(height, width, 1 if image.mode in _GREY else 3)


def opened(pixels: Pixels) -> Image.Image:
    """Opens an image, turned as its EXIF data say, in mode L or RGB.

    Numbers of 16 bits are scaled by 255/65535 and floats in [0, 1] by 255, transparent images are
    laid over white, palettes and CMYK (a JPEG's as Adobe writes it) become RGB. Of several pictures
    in a file the first is taken. One that is grey or RGB already is not decoded yet.

    Args:
      pixels: a file's content, or uint8 [H, W, K] with K from 1 to 4, which is not converted.

    Raises:
      OSError: if Pillow cannot decode it.
      ValueError: if its numbers are out of range.

    Example:
      `opened(png).mode in ("L", "RGB")`
    """
    if isinstance(pixels, np.ndarray):
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image = _read(pixels)
    turned = ImageOps.exif_transpose(image) if _orientation(image) > 1 else image
    if turned.mode in _DEEP:
        return Image.fromarray(_to_8_bits(np.asarray(turned)))
    grey = turned.mode in _GREY
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, BACKGROUND), turned)
    mode = "L" if grey else "RGB"
    return turned if turned.mode == mode else turned.convert(mode)


def _read(content: bytes) -> Image.Image:
    if not content:
        raise OSError("it is empty")
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:  # whose own words are about the BytesIO
        raise OSError("it is not an image that Pillow can decode") from None


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode it to look behind its pixels
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if isinstance(orientation, int) else 1


def _to_8_bits(numbers: np.ndarray) -> np.ndarray:
    most = 1 if numbers.dtype.kind == "f" else 65535
    if not (numbers.min() >= 0 and numbers.max() <= most):  # NaN neither
        raise ValueError(
            f"its numbers go from {numbers.min():g} to {numbers.max():g}, not from 0 to {most}"
        )
    return np.round(numbers * (255 / most)).astype(np.uint8)
