"""Pillow's operations by the names and levels of the published lists, and photographs for them."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

# Whose arithmetic is of whole numbers in Pillow, so that not a bit may differ.
WHOLE = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "posterize",
    "solarize",
    "equalize",
    "invert",
)


def photographs(height: int = 32, width: int = 32) -> np.ndarray:
    """Crops of two photographs, from the full size and made small, [8, height, width, 3] uint8."""
    crops = []
    for image in load_sample_images().images:
        small = np.asarray(Image.fromarray(image).resize((96, 64)))
        crops += [image[200:, 300:], image[20:, 20:], small[20:, 5:], small[:, 50:]]
    return np.stack([crop[:height, :width] for crop in crops])


def changed(
    image: np.ndarray, name: str, level: int, bins: int, sign: int, as_in_program: bool
) -> np.ndarray:
    """What Pillow makes of an image [H, W] or [H, W, 3]."""
    before, share = Image.fromarray(image), level / (bins - 1)
    fill = 128 if as_in_program else 0
    fill = (fill,) * 3 if image.ndim == 3 else fill
    if name in ("brightness", "color", "contrast", "sharpness"):
        after = getattr(ImageEnhance, name.capitalize())(before).enhance(1 + sign * 0.9 * share)
    elif name == "posterize":
        after = ImageOps.posterize(before, 8 - round(4 * share))
    elif name == "solarize":
        white = 256 if as_in_program else 255
        after = ImageOps.solarize(before, white - white * level / (bins - 1))
    elif name in ("autocontrast", "equalize", "invert"):
        after = getattr(ImageOps, name)(before)
    elif name == "rotate":
        angle = 30 * share * (1 if as_in_program else sign)
        after = before.rotate(angle, fillcolor=fill)
    elif name == "identity":
        after = before
    else:
        after = _affine(before, name, sign * share, fill, as_in_program)
    return np.asarray(after)


def _affine(before, name, signed, fill, as_in_program):
    kind, axis = name.split("_")
    cubic = as_in_program and kind == "shear"
    if kind == "shear":
        amount = 0.3 * signed
    else:
        amount = 150 / 331 * before.size[axis == "y"] * signed
        amount = amount if as_in_program else int(amount)
    place = {
        "shear_x": (1, amount, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, amount, 1, 0),
        "translate_x": (1, 0, amount, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, amount),
    }[name]
    sampling = Image.Resampling.BICUBIC if cubic else Image.Resampling.NEAREST
    return before.transform(
        before.size, Image.Transform.AFFINE, place, resample=sampling, fillcolor=fill
    )
