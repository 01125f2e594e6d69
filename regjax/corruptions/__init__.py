"""Images as they come at test time: white noise and the like, and the corruptions of ImageNet-C.

Everything is a pure function of images and keys, under `jit` and `vmap`; levels and severities may
be traced, so that one compiled program serves all of them.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from regjax.core.checks import check_scalar
from regjax.corruptions.blurs import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from regjax.corruptions.digital import elastic_transform, pixelate
from regjax.corruptions.jpeg import jpeg_compression
from regjax.corruptions.levels import SEVERITIES, truncated
from regjax.corruptions.liquid import spatter
from regjax.corruptions.pixel_noise import (
    check_images,
    check_pixels,
    salt_and_pepper,
    switched_off_pixels,
    white_noise,
)
from regjax.corruptions.sensor import (
    brightness,
    contrast,
    gaussian_noise,
    impulse_noise,
    saturate,
    shot_noise,
    speckle_noise,
)
from regjax.corruptions.severities import Levels
from regjax.corruptions.weather import fog, frost, snow

__all__ = [
    "EXTRA",
    "NAMES",
    "corrupt",
    "salt_and_pepper",
    "switched_off_pixels",
    "white_noise",
]

# image [H, W, 3], severity [], key, levels -> [H, W, 3]
Corruption = Callable[..., jax.Array]

_BENCHMARK: tuple[Corruption, ...] = (
    gaussian_noise,
    shot_noise,
    impulse_noise,
    defocus_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
    snow,
    frost,
    fog,
    brightness,
    contrast,
    elastic_transform,
    pixelate,
    jpeg_compression,
)
_FURTHER: tuple[Corruption, ...] = (speckle_noise, gaussian_blur, spatter, saturate)
_ALL = {function.__name__: function for function in (*_BENCHMARK, *_FURTHER)}

#: The fifteen corruptions whose mean error is reported, in the paper's order.
NAMES = tuple(function.__name__ for function in _BENCHMARK)
#: The four that the paper sets aside for validation.
EXTRA = tuple(function.__name__ for function in _FURTHER)


def corrupt(
    name: str,
    image: jax.Array,
    severity: int | jax.Array,
    keys: jax.Array,
    levels: Literal["auto", "cifar", "tiny_imagenet", "imagenet"] = "auto",
    *,
    quantised: bool = True,
) -> jax.Array:
    """Images corrupted as those of CIFAR-10-C, Tiny-ImageNet-C or ImageNet-C are.

    See "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
    (Hendrycks & Dietterich, 2019), section 4, with the parameters of the authors' three programs,
    in pixels of images of 32, 64 and 224. These decide where paper and program differ. `sensor`,
    `blurs`, `weather`, `liquid`, `digital` and `jpeg`, beside this file, say what each one does.
    One departs: `frost` draws its ice, milder, since the published photographs cannot be shipped.
    The images of the two larger benchmarks were stored as JPEG afterwards; these are not.

    Args:
      name: out of `NAMES` and `EXTRA`; static.
      image: `[B, H, W, 3]`, in [0, 1], as a rule 255ths.
      severity: `[]` integer, 1 to 5; one that is traced is taken to the nearest of these.
      keys: `[B]`, one for each example, such as `regjax.example_keys` makes.
      levels: whose parameters; static. "auto" goes by the image's shorter side: "cifar" below 48
        pixels, "tiny_imagenet" below 128, "imagenet" from there on.
      quantised: whether results are whole 255ths, truncated as in the published images; static.

    Returns:
      `[B, H, W, 3]` float32, in [0, 1].

    Raises:
      TypeError: the images are not floating, or the severity is no integer.
      ValueError: an unknown name or `levels`, images or keys of another shape, or a severity that
        is not one number from 1 to 5; outside of a trace, images beyond [0, 1].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> image, keys = jnp.full((2, 8, 8, 3), 0.5), jax.random.split(jax.random.key(0), 2)
      >>> (corrupt("brightness", image, 3, keys)[0, 0, 0] * 255).tolist()
      [165.0, 165.0, 165.0]
    """
    if name not in _ALL:
        raise ValueError(f"no corruption is named {name!r}: they are {', '.join(_ALL)}.")
    check_images(image, keys)
    if image.shape[-1] != 3:
        raise ValueError(f"images must be [B, H, W, 3], but these are {list(image.shape)}.")
    check_pixels(name, image)
    used = _by_size(*image.shape[1:3]) if levels == "auto" else levels
    if used not in get_args(Levels):
        names = ", ".join(map(repr, ("auto", *get_args(Levels))))
        raise ValueError(f"levels must be one of {names}, not {levels!r}.")
    corrupted = jax.vmap(functools.partial(_ALL[name], levels=used), (0, None, 0))(
        image.astype(jnp.float32), _checked(severity), keys
    )
    corrupted = corrupted.astype(jnp.float32)  # where float64 is on, constants have made it that
    return truncated(corrupted) if quantised else jnp.clip(corrupted, 0, 1)


def _by_size(height: int, width: int) -> Levels:
    shorter = min(height, width)
    return "cifar" if shorter < 48 else "tiny_imagenet" if shorter < 128 else "imagenet"


def _checked(severity: int | jax.Array) -> jax.Array:
    check_scalar("the severity", severity)
    if not isinstance(severity, jax.core.Tracer):
        try:
            number = operator.index(severity)
        except TypeError:
            raise TypeError(f"the severity must be an integer, not {severity!r}.") from None
        if not 1 <= number <= SEVERITIES:
            raise ValueError(f"the severity must be from 1 to {SEVERITIES}, not {number}.")
    return jnp.clip(jnp.asarray(severity), 1, SEVERITIES)
