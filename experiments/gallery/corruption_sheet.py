"""A contact sheet of the corruptions: one a line, severities from left to right.

    python -m experiments.gallery.corruption_sheet --output=corruptions.png --dataset=cifar10_jpeg

The noises of the robustness tables come first, at those tables' levels, then the fifteen
corruptions of CIFAR-10-C and the four extra ones. All are applied to the same few test images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import ConfigError
from experiments.data import sources
from experiments.gallery import figure_file
from experiments.runs import commands
from regjax import corruptions

IMAGES, ZOOM, GAP = 3, 2, 4  # images in a cell, pixels a pixel, pixels between cells

# Of Noisy Feature Mixup: how CIFAR is normalised, the levels of tables 1 to 3; pixels around SIGN's
# 50 of 1,024.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
SIGMAS = (0.1, 0.2, 0.25, 0.3, 0.5)
AMOUNTS = (0.02, 0.04, 0.06, 0.1, 0.15)
SHARES = tuple(count / 1024 for count in (10, 25, 50, 100, 200))

# A line of the sheet: its label, and the images at the five levels.
Line = tuple[str, list[np.ndarray]]


def lines(image: np.ndarray, seed: int = 0) -> Iterator[Line]:
    """Yields the sheet's lines.

    Args:
      image: uint8 `[N, H, W, 3]`.
      seed: of the draws.

    Yields:
      A label, and for each of five levels uint8 `[N, H, W, 3]`.
    """
    pixels = jnp.asarray(image, jnp.float32) / 255
    keys = jax.random.split(jax.random.key(seed), len(image))
    yield from _noise(corruptions.white_noise, SIGMAS, pixels, keys)
    yield from _noise(corruptions.salt_and_pepper, AMOUNTS, pixels, keys)
    off = functools.partial(corruptions.switched_off_pixels, pixels, keys=keys)
    yield _line("switched off pixels\n1, 2.4, 4.9, 9.8, 19.5%", off, SHARES)
    for name in (*corruptions.NAMES, *corruptions.EXTRA):
        at = functools.partial(corruptions.corrupt, name, pixels, keys=keys)
        drawn = "\n(drawn: no photographs)" if name == "frost" else ""
        yield _line(_words(name) + drawn, at, (1, 2, 3, 4, 5))


def _noise(
    noise: Callable[..., jax.Array], levels: tuple[float, ...], pixels: jax.Array, keys: jax.Array
) -> Iterator[Line]:
    """In both protocols, see `regjax.corruptions.white_noise`."""
    mean, std = (jnp.array(each).reshape(1, 1, 1, 3) for each in (MEAN, STD))

    def on_normalised(level: float) -> jax.Array:
        return noise((pixels - mean) / std, level, keys, protocol="paper") * std + mean

    def on_pixels(level: float) -> jax.Array:
        return noise(pixels, level, keys, protocol="pixel")

    name, numbers = _words(noise.__name__), ", ".join(map(str, levels))
    yield _line(f"{name}, as in the paper\n{numbers}", on_normalised, levels)
    yield _line(f"{name}, on pixels\n{numbers}", on_pixels, levels)


def _line(label: str, at: Callable[..., jax.Array], levels: tuple[float, ...]) -> Line:
    compiled = jax.jit(at)
    shown = [np.asarray(jnp.clip(compiled(level), 0, 1)) for level in levels]
    return label, [(each * 255).round().astype(np.uint8) for each in shown]


def _words(name: str) -> str:
    return name.replace("_", " ")


def sheet(image: np.ndarray, seed: int = 0) -> Figure:
    """Draws the sheet; arguments as in `lines`."""
    labels, rows = [], []
    for label, cells in lines(image, seed):
        labels.append(label)
        rows.append(np.concatenate([_cell(each) for each in (image, *cells)], 1))
    whole = np.concatenate(rows)
    height, width = rows[0].shape[0], rows[0].shape[1] // 6
    figure = Figure(
        figsize=(3.4 + whole.shape[1] / 150, 1 + whole.shape[0] / 150), layout="constrained"
    )
    axes = figure.add_subplot()
    axes.imshow(whole, interpolation="nearest")
    axes.set_xticks(np.arange(6) * width + width / 2, ["clean", *"12345"])
    axes.set_yticks(np.arange(len(labels)) * height + height / 2, labels)
    axes.tick_params(length=0, labeltop=True, labelsize=8)
    axes.set_frame_on(False)
    return figure


def _cell(image: np.ndarray) -> np.ndarray:
    """Images side by side, enlarged, on white."""
    wide = np.concatenate(list(image), 1).repeat(ZOOM, 0).repeat(ZOOM, 1)
    return np.pad(wide, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def chosen(dataset: str) -> np.ndarray:
    """The test images to show: evenly spaced through the data set, uint8 `[N, H, W, 3]`.

    Raises:
      OSError: the data set is missing; says how to prepare it.
      ConfigError: its images are not in colour.
      ValueError: it is damaged.
    """
    image = sources.load_test(dataset)["image"]
    if image.shape[-1] != 3:
        raise ConfigError(
            f"--dataset={dataset} has images of {image.shape[-1]} channel(s), but corruptions are "
            "for colour images: name another, such as cifar10_jpeg."
        )
    return image[:: max(len(image) // IMAGES, 1)][:IMAGES]


def main() -> None:
    """Writes the sheet; bad input ends it with one sentence and exit code 2."""
    try:
        figure_file.check(flags.FLAGS.output)
        path = figure_file.write(sheet(chosen(flags.FLAGS.dataset)), flags.FLAGS.output)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    print(f"Written to {path}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "corruptions.png", "The PNG to write.")
    flags.DEFINE_string("dataset", "cifar10_jpeg", "A prepared TFDS data set of colour images.")
    commands.run(main)
