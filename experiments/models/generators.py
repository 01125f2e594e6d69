"""Generators and their critics, by name: `config.model = "dcgan(width=64, latents=100)"`.

A generator is a function from latents, with what it is told of labels behind them, `[B, N]`, to
images `[B, H, W, K]` in [-1, 1]. A critic is one from images, with constant maps of the label as
more channels, to numbers `[B, 1 + M]`: the first says how real, the others of what class and codes.
Both are for squares of 32 x 32, 28 x 28 and others that can be halved; `width` makes them smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from experiments.models import acgan, dcgan, infogan
from regjax.core.calls import read_named

LATENTS = 100
EXAMPLE = "dcgan(width=64, latents=100)"


class Sizes(NamedTuple):
    """What a pair of networks is of.

    Attributes:
      image_shape: the shape of an image, `(H, W, K)`, of a square.
      inputs: the numbers that a generator is given, N.
      maps: the channels of a critic's input beside those of the image.
      outputs: the critic's numbers beside the first, M.
    """

    image_shape: tuple[int, ...]
    inputs: int
    maps: int
    outputs: int


class Pair(NamedTuple):
    """A generator and its critic, `(sizes, width, rngs) -> nnx.Module`, and their usual width."""

    generator: Callable[..., nnx.Module]
    critic: Callable[..., nnx.Module]
    width: int


PAIRS: Mapping[str, Pair] = {
    "dcgan": Pair(dcgan.Generator, dcgan.Critic, 64),
    "acgan": Pair(acgan.Generator, acgan.Critic, 48),
    "infogan": Pair(infogan.Generator, infogan.Critic, 64),
}


def read(text: str) -> tuple[Pair, int]:
    """The pair that an expression names, of its width, and the numbers of a latent.

    Raises:
      ValueError: there is no such pair, or it does not take such arguments.

    Example:
      >>> pair, latents = read("dcgan(width=16, latents=32)")
      >>> pair.width, latents
      (16, 32)
    """
    name, given = read_named(text, "model", EXAMPLE)
    if name not in PAIRS:
        raise ValueError(
            f"{text!r} is no generator with its critic; known are: {', '.join(PAIRS)}, such as "
            f"{EXAMPLE}."
        )
    usual = {"width": PAIRS[name].width, "latents": LATENTS}
    right = given.keys() <= usual.keys() and all(map(_is_size, given.values()))
    if not right:
        raise ValueError(
            f"the model {text!r} takes width= and latents=, whole numbers from 1 to 65535, such as "
            f"{EXAMPLE}."
        )
    found = usual | given
    return PAIRS[name]._replace(width=found["width"]), found["latents"]


def create(pair: Pair, sizes: Sizes, key: jax.Array) -> dict[str, nnx.Module]:
    """Both networks, freshly initialised, "generator" and "critic".

    Raises:
      ValueError: images are no squares, or too small or odd for the networks.
    """
    height, width, _ = sizes.image_shape
    if height != width or dcgan.halvings(height) == 0:
        raise ValueError(
            f"generators are of square images whose side can be halved to 4 or more, such as 28 or "
            f"32, not of {height} x {width}: set config.image_size."
        )
    keys = jax.random.split(key)
    make = {"generator": pair.generator, "critic": pair.critic}
    return {
        player: make[player](sizes, pair.width, rngs=nnx.Rngs(each))
        for player, each in zip(make, keys, strict=True)
    }


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**16
