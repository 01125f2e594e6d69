"""From an encoded image to pixels of one size: the crops with which ImageNet is trained and tested.

Only the part that is cropped is resized, and a large JPEG is decoded at a fraction of its size
where more pixels would not be seen in the crop.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

AREA = (0.08, 1.0)  # of a training crop, as a fraction of the image's
RATIO = (3 / 4, 4 / 3)  # of its width to its height
TRIES = 10
MARGIN = 256 / 224  # shorter side of the resized test image, in sides of its crop

# A JPEG is decoded smaller only as far as the crop keeps this many pixels for each of its result:
# then the resampling, not the decoder, sets the result.
_SPARE = 2
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

Box = tuple[float, float, float, float]  # left, top, right, bottom
Picture = bytes | Image.Image  # a file's content, or what has been opened of it


def random_crop(
    encoded: Picture, size: int, channels: int, generator: np.random.Generator
) -> np.ndarray:
    """Crops a random part, of random area and ratio, and flips every second image.

    Args:
      encoded: a JPEG, PNG or the like, or a Pillow image.
      size: of the result.
      channels: 1 (grey) or 3; images of another mode are converted.
      generator: of the crop.

    Returns:
      uint8 [size, size, channels].

    Raises:
      OSError: if Pillow cannot decode it.

    Example:
      `random_crop(jpeg, 224, 3, np.random.default_rng(0))`
    """
    image = _opened(encoded)
    pixels = _resized(image, random_box(*image.size, generator), size, channels)
    return pixels[:, ::-1] if generator.random() < 0.5 else pixels


def centre_crop(encoded: Picture, size: int, channels: int) -> np.ndarray:
    """Crops the centre, 224/256 of the shorter side; arguments and result as in `random_crop`."""
    image = _opened(encoded)
    return _resized(image, _centre(*image.size), size, channels)


def squeezed(encoded: Picture, size: int, channels: int) -> np.ndarray:
    """Resizes the whole image to a square; arguments and result as in `random_crop`."""
    image = _opened(encoded)
    return _resized(image, (0, 0, *image.size), size, channels)


# By the values of `config.resize`: what is brought to the image size.
RESIZE: dict[str, Callable[[Picture, int, int], np.ndarray]] = {
    "centre": centre_crop,
    "whole": squeezed,
}


def resized_mask(encoded: bytes, size: int, resize: str = "centre") -> np.ndarray:
    """Crops the same part of a mask, whose pixels are classes: the nearest one is taken.

    Args:
      encoded: a file of one channel, or of colours by their numbers.
      size: of the result.
      resize: a key of `RESIZE`.

    Returns:
      uint8 [size, size].

    Raises:
      OSError: if Pillow cannot decode it.

    Example:
      `resized_mask(png, 224)`
    """
    image = _opened_mask(encoded)
    box = _centre(*image.size) if resize == "centre" else (0, 0, *image.size)
    return np.asarray(image.resize((size, size), Image.Resampling.NEAREST, box=box))


def whole(encoded: Picture, channels: int) -> np.ndarray:
    """Decodes an image as it is stored, uint8 [H, W, channels]; other modes are converted."""
    image = _in_mode(_opened(encoded), _MODES[channels])
    return np.asarray(image).reshape(image.height, image.width, channels)


def mask(encoded: bytes) -> np.ndarray:
    """Decodes a mask as it is stored, uint8 [H, W]."""
    return np.asarray(_opened_mask(encoded))


def size_of(encoded: bytes) -> tuple[int, int]:
    """Returns an image's height and width, without decoding it."""
    image = _opened(encoded)
    return image.height, image.width


def random_box(width: int, height: int, generator: np.random.Generator) -> Box:
    """Draws a box: its area uniform, its ratio log-uniform, its place uniform.

    A box that does not fit is drawn again; after ten tries it is the largest in the centre whose
    ratio is allowed.
    """
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(TRIES):
        area = width * height * generator.uniform(*AREA)
        ratio = math.exp(generator.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(generator.integers(width - w, endpoint=True))
            top = int(generator.integers(height - h, endpoint=True))
            return left, top, left + w, top + h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _opened(encoded: Picture) -> Image.Image:
    if isinstance(encoded, Image.Image):
        return encoded
    try:
        return Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError:  # whose own words are about the BytesIO
        raise OSError("it is not an image that Pillow can decode") from None


def _opened_mask(encoded: bytes) -> Image.Image:
    image = _opened(encoded)
    if image.mode not in ("L", "P"):  # a conversion would turn classes into others
        raise OSError(f"it is not a mask of one channel of 8 bits, but of mode {image.mode}")
    return image


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _centre(width: int, height: int) -> Box:
    side = min(width, height) / MARGIN
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _resized(image: Image.Image, box: Box, size: int, channels: int) -> np.ndarray:
    left, top, right, bottom = box
    width, height = image.size
    mode = _MODES[channels]
    fraction = int(min(right - left, bottom - top) / (_SPARE * size))
    if fraction > 1:
        image.draft(mode, (width // fraction, height // fraction))  # does nothing but to a JPEG
    across, down = image.size[0] / width, image.size[1] / height
    box = (left * across, top * down, right * across, bottom * down)
    pixels = _in_mode(image, mode).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(pixels).reshape(size, size, channels)
