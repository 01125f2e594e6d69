"""Whitening: what is done to normalised images before a network sees them.

An expression names the stages in their order, such as "gcn | zca(epsilon=0.1)":

- `gcn(norm=55.0)`, global contrast normalisation: each image less its mean over pixels and
  channels, scaled to that Euclidean length.
- `standardise`: each image less its mean, with root mean square 1.
- `zca(epsilon=1e-5)`, the last where it is there: `(x - m) U (S + epsilon)^(-1/2) U'`, with the
  mean m and the covariance `U S U'` of all training images.

All of it is part of `Task.prepare`: images are whitened first, then cropped, flipped and noised by
the loss's stages, as in the programs of "Temporal Ensembling for Semi-Supervised Learning" (Laine
and Aila, 2017; epsilon 1e-5) and "Mean teachers are better role models" (Tarvainen and Valpola,
2017; gcn and 0.1). Corruptions and attacks are of the pixels, before all of it. A product with the
matrix is 9.4 million multiply-adds an image of CIFAR, as much as a third of a narrow network's
step: so that, with `zca`, the images of a data set are prepared once, and lie on the device in
float32 under `PREPARED`, beside the pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import is_number
from experiments.data.preprocessing import normalise
from regjax.core.calls import read_named

# What each stage takes, and by default.
STAGES: dict[str, dict[str, float]] = {
    "gcn": {"norm": 55.0},
    "standardise": {},
    "zca": {"epsilon": 1e-5},
}
EXAMPLE = "gcn(norm=55.0)"
PREPARED = "prepared"  # the key of stored images that are whitened already
LARGEST = 64 * 64 * 3  # pixels times channels: a matrix of 0.6 GB
CHUNK = 2048  # images that are float64 at a time
MEASURED = 1000  # images whose length is measured
TINY = 1e-12  # beside squares of what differs by 1/255 somewhere
ROUNDING = 1e-11  # the largest mean square of an image of one colour, less its mean, in float32
PIXELS = (-3, -2, -1)

Stage = tuple[str, dict[str, float]]


class Zca(NamedTuple):
    """What ZCA has learnt from the training images.

    Attributes:
      mean: float32 `[D]`, D pixels times channels.
      matrix: float32 `[D, D]`, symmetric.
      length: the mean Euclidean length of a whitened training image, near `sqrt(D)`.
    """

    mean: np.ndarray
    matrix: np.ndarray
    length: float


def read(text: str) -> tuple[Stage, ...]:
    """The stages of an expression, each with all its arguments.

    Raises:
      ValueError: there is no such stage, it does not take these arguments, or `zca` is not the
        last.

    Example:
      >>> read("gcn | zca(epsilon=0.1)")
      (('gcn', {'norm': 55.0}), ('zca', {'epsilon': 0.1}))
    """
    stages = tuple(map(_stage, text.split("|"))) if text.strip() else ()
    if any(name == "zca" for name, _ in stages[:-1]):
        raise ValueError(f"zca must be the last of {text!r}: its matrix is of what goes before it.")
    return stages


def _stage(text: str) -> Stage:
    name, given = read_named(text, "stage", EXAMPLE)
    if name not in STAGES:
        raise ValueError(f"unknown stage {text.strip()!r}; known are: {', '.join(STAGES)}.")
    takes = STAGES[name]
    if unknown := sorted(given.keys() - takes):
        raise ValueError(
            f"{name} has no {unknown[0]!r}; it takes: {', '.join(takes) or 'nothing'}."
        )
    for argument, value in given.items():
        if not (is_number(value) and value > 0):
            raise ValueError(f"{argument} in {text.strip()!r} must be a positive number.")
    return name, takes | given


def has_zca(text: str) -> bool:
    """Whether there is something to learn from the training images."""
    return any(name == "zca" for name, _ in read(text))


def prepare(
    text: str,
    zca: Zca | None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Callable[..., jax.Array]:
    """The function from stored images to the network's input, as `normalise` with these stages.

    Args:
      text: the stages; without any it is `normalise`.
      zca: what has been learnt, where `zca` is one of them.
      mean: of `normalise`.
      std: likewise.

    Raises:
      ValueError: as in `read`; or `zca` is named and missing.

    Example:
      `prepare("gcn", None)(image)` are floats `[B, H, W, K]` of length 55 each.
    """
    stages = read(text)
    zca = zca if has_zca(text) else None
    if has_zca(text) and zca is None:
        raise ValueError(
            f"config.whiten={text!r} needs the matrix that was learnt from the training images, "
            "which whitening.npz in the work folder keeps: put that file back."
        )
    normalised = functools.partial(normalise, mean=mean, std=std)
    if not stages:
        return normalised

    def whitened(image: jax.Array, **changed: Any) -> jax.Array:
        x = _each(normalised(image, **changed), stages)
        return x if zca is None else _by_matrix(x, zca)

    return whitened


def prepared(function: Callable[..., jax.Array], image: np.ndarray) -> np.ndarray:
    """All images `[N, H, W, K]` as a function of `prepare` makes them, float32."""
    compiled = jax.jit(function)
    parts = [np.asarray(compiled(image[i : i + CHUNK])) for i in range(0, len(image), CHUNK)]
    return np.concatenate(parts)


def _each(image: Any, stages: Sequence[Stage]) -> Any:
    """The stages that look at one image at a time, of NumPy's or JAX's arrays `[..., H, W, K]`."""
    for name, given in stages:
        if name != "zca":
            norm = given.get("norm", float(np.prod(image.shape[-3:])) ** 0.5)
            image = image - image.mean(PIXELS, keepdims=True)
            squares = (image**2).sum(PIXELS, keepdims=True)
            seen = squares > ROUNDING * float(np.prod(image.shape[-3:]))
            image = image * (norm / (squares + TINY) ** 0.5) * seen
    return image


def _by_matrix(image: jax.Array, zca: Zca) -> jax.Array:
    flat = image.reshape(*image.shape[:-3], -1)
    flat = flat - zca.mean.reshape((1,) * (flat.ndim - 1) + (-1,))
    # Directions of little variance are enlarged a hundredfold, and the rounding of TF32 with them.
    product = jnp.matmul(flat, zca.matrix, precision=jax.lax.Precision.HIGHEST)
    return product.reshape(image.shape)


def fit(
    text: str,
    image: np.ndarray,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Zca:
    """What `zca` learns, in float64, from the images as all that goes before it makes them.

    Args:
      text: the stages, of which the last is `zca`.
      image: all training images as they are stored `[N, H, W, K]`; no label is needed.
      mean: of `normalise`.
      std: likewise.

    Raises:
      ValueError: the images are so large that the matrix is too large; or as in `read` and
        `normalise`.

    Example:
      `fit("zca(epsilon=1e-5)", dataset.train["image"]).length`
    """
    *before, (_, given) = read(text)
    size = _numbers(image.shape[1:])
    jax.eval_shape(functools.partial(normalise, mean=mean, std=std), image[:1])  # they fit it

    def flat(images: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(images), CHUNK):
            x = _normalised(images[start : start + CHUNK], mean, std)
            yield _each(x, before).reshape(len(x), -1)

    centre = sum(x.sum(0) for x in flat(image)) / len(image)
    covariance = np.zeros((size, size))
    for x in flat(image):
        x = x - centre
        covariance += x.T @ x / len(image)
    matrix = inverse_root(covariance, given["epsilon"])
    some = image[:: -(-len(image) // MEASURED)]
    lengths = [np.linalg.norm((x - centre) @ matrix, axis=1) for x in flat(some)]
    of_float32 = (centre.astype(np.float32), matrix.astype(np.float32))
    return Zca(*of_float32, float(np.concatenate(lengths).mean()))


def blank(shape: Sequence[int]) -> Zca:
    """What changes nothing, for images of a shape, to compile programs with."""
    size = _numbers(shape)
    return Zca(np.zeros(size, np.float32), np.eye(size, dtype=np.float32), 0.0)


def _numbers(shape: Sequence[int]) -> int:
    """Of an image of that shape; ValueError where they are too many."""
    size = int(np.prod(shape))
    if size > LARGEST:
        raise ValueError(
            f"config.whiten: zca has a matrix of {size:,} x {size:,} numbers for images "
            f"{list(shape)}, and is for images of up to {LARGEST:,} numbers, 64 x 64 x 3: leave it "
            "out, or set a smaller config.image_size."
        )
    return size


def inverse_root(covariance: np.ndarray, epsilon: float) -> np.ndarray:
    """`U (S + epsilon)^(-1/2) U'` of the covariance `U S U'`, float64 `[D, D]`."""
    variance, directions = np.linalg.eigh(covariance)
    return (directions * (np.maximum(variance, 0) + epsilon) ** -0.5) @ directions.T


def _normalised(
    image: np.ndarray, mean: Sequence[float] | None, std: Sequence[float] | None
) -> np.ndarray:
    """`normalise` in float64."""
    scaled = image / 255 if image.dtype == np.uint8 else image.astype(np.float64)
    return (scaled - (0.0 if mean is None else mean)) / (1.0 if std is None else std)
