"""The kinds of perturbations: noise, corruptions, attacks, and the images of other data sets.

Each is a function from a network and a batch of pixels to what the network sees at a level. What is
random is drawn for each test image by its index, the same for every network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import regjax as rj
from experiments.data.sources import STORED

CORRUPTIONS = (*rj.corruptions.NAMES, *rj.corruptions.EXTRA)

# Kinds that clip pixels to [0, 1]; noise does with protocol="pixel".
CLIPPED = ("corruption", "fgsm", "pgd", "mim", "apgd", "square", "autoattack", "cw_l2", "ddn")

# From a level to the prepared images.
At = Callable[[jax.Array], jax.Array]


class View(NamedTuple):
    """A trained network, seen from the pixels.

    Attributes:
      forward: the network, frozen.
      prepare: the function from pixels in [0, 1] to the network's input,
        `experiments.data.preprocessing.normalise` with a mean and a std, which a call's `std=`
        replaces.
      dtype: the type of the network's input.
      key: the root of all draws.
    """

    forward: rj.Forward
    prepare: Callable[..., jax.Array]
    dtype: Any
    key: jax.Array

    def outputs(self, image: jax.Array) -> rj.Outputs:
        """What the network computes at prepared images, the logits `[B, C]` in float32."""
        found = self.forward(image.astype(self.dtype))
        return found._replace(logits=found.logits.astype(jnp.float32))

    def of_pixels(self) -> rj.Forward:
        """The network as a function of the pixels."""
        return self.forward.after(lambda pixels: self.prepare(pixels).astype(self.dtype))


class Kind(NamedTuple):
    """A kind of perturbation.

    Attributes:
      function: the function `(view, batch, **options) -> At`, for a batch of pixels in [0, 1].
      level: the name of its levels; "" where there is only one, without a number.
      range: the least and the largest level.
      reads: the function `(name, level) -> str`, the name of the data set whose images are looked
        at; None for the test images.
    """

    function: Callable[..., At]
    level: str
    range: tuple[float, float]
    reads: Callable[[str, float], str] | None


KINDS: dict[str, Kind] = {}


def kind(
    level: str, low: float, high: float, reads: Callable[[str, float], str] | None = None
) -> Callable[[Callable[..., At]], Callable[..., At]]:
    """Puts a function into `KINDS`, under its name; the arguments are `Kind`'s attributes."""

    def register(function: Callable[..., At]) -> Callable[..., At]:
        KINDS[function.__name__] = Kind(function, level, (low, high), reads)
        return function

    return register


def _noise(function: Callable[..., jax.Array], view: View, batch: rj.Batch, protocol: str) -> At:
    draw = functools.partial(function, keys=rj.example_keys(view.key, batch), protocol=protocol)
    if protocol == "pixel":
        return lambda level: view.prepare(draw(batch.image, level))
    return lambda level: draw(view.prepare(batch.image), level)


@kind("sigma", 0, 1e3)
def white_noise(view: View, batch: rj.Batch, *, protocol: str = "paper") -> At:
    """Gaussian noise on prepared images ("paper") or on pixels, clipped ("pixel")."""
    return _noise(rj.corruptions.white_noise, view, batch, protocol)


@kind("amount", 0, 1)
def salt_and_pepper(view: View, batch: rj.Batch, *, protocol: str = "paper") -> At:
    """A share of the pixels set to the extremes, by "paper" in the red channel only."""
    return _noise(rj.corruptions.salt_and_pepper, view, batch, protocol)


@kind("amount", 0, 1)
def switched_off_pixels(view: View, batch: rj.Batch) -> At:
    """A share of the pixels set to 0, black."""
    keys = rj.example_keys(view.key, batch)
    return lambda level: view.prepare(rj.corruptions.switched_off_pixels(batch.image, level, keys))


@kind("severity", 1, 5)
def corruption(
    view: View, batch: rj.Batch, *, name: str, levels: Any = "auto", std: tuple[float, ...] = ()
) -> At:
    """One of `rj.corruptions.corrupt`, by the published levels for images of this size.

    Images are normalised by another `std` where one is given. Grey images are corrupted as three
    equal channels, whose mean is taken.
    """
    keys, channels = rj.example_keys(view.key, batch), batch.image.shape[-1]
    image = jnp.repeat(batch.image, 3, -1) if channels == 1 else batch.image

    def at(level: jax.Array) -> jax.Array:
        corrupted = rj.corruptions.corrupt(name, image, level.astype(jnp.int32), keys, levels)
        corrupted = jnp.mean(corrupted, -1, keepdims=True) if channels == 1 else corrupted
        return _normalising(view, std)(corrupted)

    return at


def _stored_name(name: str, level: float) -> str:
    return f"cifar10_corrupted/{STORED.get(name, name)}_{int(level)}"


@kind("severity", 1, 5, reads=_stored_name)
def stored_corruption(view: View, batch: rj.Batch, *, name: str, std: tuple[float, ...] = ()) -> At:
    """As `corruption`, but the batch is of TFDS's "cifar10_corrupted": corrupted already."""
    del name
    return lambda level: _normalising(view, std)(batch.image)


@kind("", 1, 1, reads=lambda name, level: name)
def dataset(
    view: View,
    batch: rj.Batch,
    *,
    name: str,
    map: tuple[tuple[str, tuple[str, ...]], ...] = (),
    resize: str = "centre",
    colored: bool = False,
) -> At:
    """The images of another data set, as they are; `map` is of labels, see class_names.py.

    They are brought to the size of the networks' images by their "centre" or the "whole" of each,
    as `config.resize` says it; `colored` leaves those out that are grey.
    """
    del name, map, resize, colored
    return lambda level: view.prepare(batch.image)


def _normalising(view: View, std: tuple[float, ...]) -> Callable[[jax.Array], jax.Array]:
    return functools.partial(view.prepare, std=std) if std else view.prepare


@kind("epsilon", 0, 1)
def fgsm(view: View, batch: rj.Batch) -> At:
    """Fast gradient sign method, in pixels."""
    network = view.of_pixels()
    return lambda level: view.prepare(rj.attacks.fgsm(network, batch, epsilon=level))


@kind("epsilon", 0, 1e3)
def pgd(
    view: View, batch: rj.Batch, *, steps: int = 20, norm: str = "linf", restarts: int = 1
) -> At:
    """Projected gradient descent from random starts, in pixels."""
    options: dict[str, Any] = {"steps": steps, "norm": norm, "restarts": restarts}
    return _in_pixels(rj.attacks.pgd, view, batch, options)


@kind("epsilon", 0, 1)
def mim(view: View, batch: rj.Batch, *, steps: int = 20) -> At:
    """Momentum iterative method, in pixels."""
    attack = functools.partial(rj.attacks.mim, view.of_pixels(), batch, steps=steps)
    return lambda level: view.prepare(attack(epsilon=level))


@kind("epsilon", 0, 1e3)
def apgd(
    view: View,
    batch: rj.Batch,
    *,
    steps: int = 100,
    loss: str = "cross_entropy",
    norm: str = "linf",
    restarts: int = 1,
) -> At:
    """Auto-PGD, in pixels."""
    options: dict[str, Any] = {"steps": steps, "loss": loss, "norm": norm, "restarts": restarts}
    return _in_pixels(rj.attacks.apgd, view, batch, options)


@kind("epsilon", 0, 1e3)
def square(view: View, batch: rj.Batch, *, steps: int = 1000, norm: str = "linf") -> At:
    """Random search by squares, in pixels."""
    return _in_pixels(rj.attacks.square, view, batch, {"steps": steps, "norm": norm})


@kind("epsilon", 0, 1e3)
def autoattack(
    view: View, batch: rj.Batch, *, steps: int = 100, queries: int = 5000, norm: str = "linf"
) -> At:
    """The ensemble of Auto-PGD and square, in pixels."""
    options = {"steps": steps, "queries": queries, "norm": norm}
    return _in_pixels(rj.attacks.autoattack, view, batch, options)


@kind("distance", 0, 1e3)
def cw_l2(view: View, batch: rj.Batch, *, steps: int = 100, search_steps: int = 5) -> At:
    """Carlini and Wagner's: images whose smallest misleading change is within the distance."""
    found = rj.attacks.cw_l2(view.of_pixels(), batch, steps=steps, search_steps=search_steps)
    return _within(view, batch, *found)


@kind("distance", 0, 1e3)
def ddn(view: View, batch: rj.Batch, *, steps: int = 100) -> At:
    """As `cw_l2`, found by decoupled direction and norm."""
    return _within(view, batch, *rj.attacks.ddn(view.of_pixels(), batch, steps=steps))


def _in_pixels(
    function: Callable[..., jax.Array], view: View, batch: rj.Batch, options: dict[str, Any]
) -> At:
    attack = functools.partial(function, view.of_pixels(), batch, view.key, **options)
    return lambda level: view.prepare(attack(epsilon=level))


def _within(view: View, batch: rj.Batch, changed: jax.Array, success: jax.Array) -> At:
    change = (changed - batch.image).reshape(len(changed), -1)
    distance = jnp.sqrt(jnp.sum(change**2, -1))

    def at(level: jax.Array) -> jax.Array:
        near = (success & (distance <= level))[:, None, None, None]
        return view.prepare(jnp.where(near, changed, batch.image))

    return at
