"""What a network with a class for every pixel answers over several views of an image.

An expression names what is averaged, each part at most once and in any order, such as
"windows(size=769, stride=513) | scales(factors=(0.75, 1.0, 1.25, 1.5)) | flips":

- `windows(size=, stride=)`: squares that the network sees one at a time, `stride` pixels apart, by
  default two thirds of the size, rounded up. The last of a row or column is moved back to end at
  the border. A side that is shorter than a window is taken whole, nothing is padded.
- `scales(factors=)`: the image enlarged or reduced to `round(factor * size)` a side.
- `flips`: each image as it is, and mirrored from left to right.

ISDA's Table 7 is of the factors 0.75, 1, 1.25 and 1.5, with and without flips. The released program
has windows of 769 at one scale; its branches for scales and flips cannot have made that table: the
one adds logits of different sizes, the other mirrors them back from top to bottom.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import ConfigError, is_number
from regjax.core.calls import read_named
from regjax.core.resizing import resized

PARTS = {"windows": ("size", "stride"), "scales": ("factors",), "flips": ()}
EXAMPLE = "windows(size=769)"
LARGEST = 16  # of factors
INFINITE = 1e38  # for logits beyond it
WIDTH = 2  # the axis of [B, H, W, K] that is mirrored

Network = Callable[[jax.Array], jax.Array]


class Window(NamedTuple):
    """One window of an image, or with a first axis all of them.

    Attributes:
      top: int32 `[]`, its first row.
      left: int32 `[]`, its first column.
      rows: float32 `[h]`, the share of each row in the mean over all windows.
      columns: float32 `[w]`, likewise; a pixel's share is the product of its row's and column's.
      mirrored: bool `[]`, whether the network sees it mirrored.
    """

    top: Any
    left: Any
    rows: Any
    columns: Any
    mirrored: Any


@dataclasses.dataclass(frozen=True)
class Views:
    """The views of an image whose logits are averaged; by default the whole image alone.

    Attributes:
      size: the side of a window in pixels of the scaled image; None for the whole image.
      stride: from one window to the next; None for `ceil(2 / 3 size)`, which it becomes.
      scales: the factors by which images are enlarged.
      flips: whether each image is seen mirrored too.

    Raises:
      ValueError: a number is out of range, or windows would leave gaps.
    """

    size: int | None = None
    stride: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flips: bool = False

    def __post_init__(self) -> None:
        if self.size is not None or self.stride is not None:
            object.__setattr__(self, "stride", _stride(self.size, self.stride))
        if not self.scales or not all(is_number(s) and 0 < s <= LARGEST for s in self.scales):
            raise ValueError(
                f"the factors of scales must be positive numbers of at most {LARGEST}, one or more "
                f"such as (0.75, 1.0), not {self.scales!r:.200}."
            )

    def logits(self, network: Network, image: jax.Array, classes: int) -> jax.Array:
        """The mean of each pixel's logits over all views.

        `mean_s resized(mean_f mean_w network(window))`: the mean over windows is that of those that
        cover the pixel, and a mirrored image has windows of its own. The network is compiled once a
        scale. Scales come one after the other, and windows too, so that of logits of the image's
        size those of one scale, with a copy while they are resized, and the sum are alive.

        Args:
          network: from images `[B, h, w, K]` of any size to logits `[B, h, w, C]`.
          image: `[B, H, W, K]`.
          classes: C.

        Returns:
          float32 `[B, H, W, C]`; NaN where the network's answer in any view is.

        Example:
          >>> image = jnp.arange(6.0).reshape(1, 1, 6, 1)
          >>> print(Views(size=4, stride=2).logits(lambda x: x - x.mean(), image, 1).ravel())
          [-1.5 -0.5 -0.5  0.5  0.5  1.5]
        """
        each = [
            functools.partial(self._scaled, network, image, classes, scale) for scale in self.scales
        ]
        if len(each) == 1:
            return each[0]()

        def add(total: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
            return total + jax.lax.switch(i, each) / len(each), None

        # One turn a scale, or else a compiler may compute several before it adds any.
        zeros = jnp.zeros((*image.shape[:-1], classes), jnp.float32)
        return jax.lax.scan(add, zeros, jnp.arange(len(each)))[0]

    def _scaled(self, network: Network, image: jax.Array, classes: int, scale: float) -> jax.Array:
        height, width = image.shape[1:3]
        size = (max(1, round(scale * height)), max(1, round(scale * width)))
        seen = resized(image.astype(jnp.float32), size).astype(image.dtype)
        return _resized_back(self._slid(network, seen, classes), (height, width))

    def _slid(self, network: Network, image: jax.Array, classes: int) -> jax.Array:
        """The means over windows and flips, float32 `[B, h, w, C]`."""
        windows, (height, width) = self._windows(*image.shape[1:3])
        if len(windows.top) == 1:
            return network(image).astype(jnp.float32)
        shape = (len(image), height, width)

        def add(total: jax.Array, window: Window) -> tuple[jax.Array, None]:
            at = (0, window.top, window.left, 0)
            seen = jax.lax.dynamic_slice(image, at, (*shape, image.shape[-1]))
            logits = network(_mirrored(seen, window.mirrored)).astype(jnp.float32)
            share = jnp.outer(window.rows, window.columns)[None, :, :, None]
            before = jax.lax.dynamic_slice(total, at, (*shape, classes))
            after = before + share * _mirrored(logits, window.mirrored)
            return jax.lax.dynamic_update_slice(total, after, at), None

        # A scan, so that the network is compiled once, and no two windows' logits are kept.
        return jax.lax.scan(add, jnp.zeros((*image.shape[:-1], classes), jnp.float32), windows)[0]

    def _windows(self, height: int, width: int) -> tuple[Window, tuple[int, int]]:
        """All windows of an image, and their height and width."""
        (tops, rows), (lefts, columns) = (self._side(n) for n in (height, width))
        sides = [(lefts, columns, False)]
        if self.flips:
            # What begins at column i of a mirrored image ends there, counted from the right.
            sides.append((width - columns.shape[1] - lefts, columns[:, ::-1], True))
        each = [
            Window(top, left, row / len(sides), column, mirrored)
            for lefts, columns, mirrored in sides
            for (top, row), (left, column) in itertools.product(
                zip(tops, rows, strict=True), zip(lefts, columns, strict=True)
            )
        ]
        stacked = Window(*(np.stack(values) for values in zip(*each, strict=True)))
        return stacked, (rows.shape[1], columns.shape[1])

    def _side(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Where windows begin along a side of n pixels `[M]`, and their pixels' shares `[M, m]`."""
        size, stride = min(self.size or n, n), self.stride or n
        begins = np.minimum(np.arange(-(-(n - size) // stride) + 1) * stride, n - size)
        covered = begins[:, None] + np.arange(size)
        times = np.bincount(covered.ravel(), minlength=n)
        return begins.astype(np.int32), (1 / times[covered]).astype(np.float32)


WHOLE = Views()


def _stride(size: Any, stride: Any) -> int:
    if type(size) is not int or size < 1:
        raise ValueError(
            f"the size of windows must be a whole number of at least 1 pixel, not {size!r:.200}."
        )
    if stride is None:
        return -(-2 * size // 3)
    if type(stride) is not int or not 1 <= stride <= size:
        raise ValueError(
            "the stride of windows must be a whole number from 1 to their size, beyond which they "
            f"would leave gaps, but for size={size!r:.200} it is {stride!r:.200}."
        )
    return stride


def _resized_back(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Logits of another size; NaN only where one of the pixels that it is between is."""
    if logits.shape[1:3] == size:
        return logits
    # Products with 0 would spread what is not finite over the image.
    nothing = jnp.any(jnp.isnan(logits), -1, keepdims=True)
    found = resized(jnp.where(nothing, 0, jnp.clip(logits, -INFINITE, INFINITE)), size)
    return jnp.where(resized(nothing.astype(jnp.float32), size) > 0, jnp.nan, found)


def _mirrored(x: jax.Array, whether: jax.Array) -> jax.Array:
    return jnp.where(whether, jnp.flip(x, WIDTH), x)


def read(text: str) -> Views:
    """Reads `config.views`; "" is the whole image alone.

    Raises:
      ConfigError: it is no such expression.

    Example:
      >>> read("flips | windows(size=4)")
      Views(size=4, stride=3, scales=(1.0,), flips=True)
    """
    parts: dict[str, dict[str, Any]] = {}
    try:
        for part in text.split("|") if text.strip() else ():
            name, given = read_named(part.strip(), "part", EXAMPLE)
            _check_part(name, given, parts)
            parts[name] = given
        return _views(parts)
    except ValueError as error:
        raise ConfigError(f"config.views: {error}") from None


def _check_part(name: str, given: dict[str, Any], parts: dict[str, Any]) -> None:
    if name not in PARTS:
        raise ValueError(f"unknown part {name!r:.200}; known are: {', '.join(PARTS)}.")
    if name in parts:
        raise ValueError(f"{name} is named twice.")
    takes, needed = PARTS[name], PARTS[name][:1]
    if unknown := [argument for argument in given if argument not in takes]:
        names = ", ".join(takes) or "nothing"
        raise ValueError(f"{name} has no {unknown[0]!r:.200}; it takes: {names}.")
    if missing := [argument for argument in needed if given.get(argument) is None]:
        raise ValueError(f"{name} needs {missing[0]}=.")


def _views(parts: dict[str, dict[str, Any]]) -> Views:
    windows = parts.get("windows", {})
    factors = parts.get("scales", {}).get("factors", Views.scales)
    scales = tuple(factors) if isinstance(factors, tuple | list) else (factors,)
    return Views(windows.get("size"), windows.get("stride"), scales, "flips" in parts)
