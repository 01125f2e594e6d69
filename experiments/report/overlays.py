"""Images beside their masks: what is true of each pixel, and what a network says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.data.dataset import IGNORED, Dataset
from experiments.data.streams import Streams
from experiments.report import plots, tiles
from experiments.runs import load
from experiments.runs.experiment import Picture
from experiments.runs.load import Trained
from experiments.training.feeds import spaced

SHOWN = 4
TITLES = ("image", "truth", "prediction")
# Nineteen colours, of which any two are 50 apart in CIELAB, found by exchanging one at a time; none
# is grey, as what is ignored is.
COLOURS = (
    *("#870F0F", "#00FF00", "#0000FF", "#4BD2FF", "#870F87", "#D2E196", "#FFA50F", "#E1F000"),
    *("#004B87", "#FF00FF", "#0069FF", "#2D9600", "#FF0000", "#E1B4FF", "#FF0078", "#695A00"),
    *("#FFA596", "#00FFB4", "#008769"),
)
OPACITY = 0.65
DPI, SMALLEST, LARGEST = 150, 200, 320


def picture(found: Trained, data: Callable[[], Any]) -> Picture:
    """Four images of the split that is scored, spread over it, with what a run's network says.

    To be an experiment's `pictures`, where labels are masks.

    Args:
      found: the run.
      data: the function that reads its data set, whose labels are `[N, H, W]`.
    """
    (image, mask), network = _examples(data()), load.predictor(found)
    predicted = np.asarray(jax.jit(lambda image: answers(network(image)))(image))
    figure = draw(image, mask, predicted, found.spec.class_names)
    caption = (
        f"{found.spec.scored.capitalize()} images, what is true of their pixels, and what the "
        "network says; pixels that are ignored have no colour."
    )
    return Picture(figure, caption)


def _examples(data: Dataset | Streams) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks; of a stream the first ones."""
    if isinstance(data, Streams):
        image, mask, *_ = next(data.test(SHOWN))
        return image, mask
    shown = spaced(len(data.test["image"]), SHOWN)
    return data.test["image"][shown], data.test["label"][shown]


def answers(logits: jax.Array) -> jax.Array:
    """The class of each pixel, int32 `[B, H, W]`, of logits `[B, H, W, C]`.

    Where one is NaN there is no answer, and it is 255.
    """
    return jnp.where(jnp.isnan(logits).any(-1), IGNORED, jnp.argmax(logits, -1).astype(jnp.int32))


def draw(
    image: np.ndarray, mask: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """A row for each image: the image, the truth over it, the prediction over it.

    Args:
      image: `[N, H, W, 1 or 3]`, uint8 or in [0, 1].
      mask: the classes, `[N, H, W]`, 255 where they are ignored.
      predicted: as `mask`.
      class_names: one a class; the legend has them all.
    """
    pixels = np.broadcast_to(tiles.as_bytes(image), (*image.shape[:3], 3))
    layers = [pixels, *(overlaid(pixels, classes) for classes in (mask, predicted))]
    cell = int(np.clip(max(image.shape[1:3]), SMALLEST, LARGEST))
    whole = tiles.sheet(np.stack(layers, 1), cell)
    width, height = whole.shape[1] / DPI, whole.shape[0] / DPI
    entries = len(class_names)
    columns = -(-entries // max(int(height / 0.2), 1))
    figure = Figure((width + 1.4 * columns, height + 0.3), DPI, layout="constrained")
    axes = figure.add_subplot()
    tiles.show(axes, whole)
    places = (np.arange(len(TITLES)) + 0.5) * whole.shape[1] / len(TITLES)
    axes.set_xticks(places, TITLES)
    axes.tick_params("x", length=0, labelsize=8, labeltop=True, labelbottom=False)
    names = zip(_over(128, palette(entries)) / 255, class_names, strict=True)
    patches = [Patch(color=tuple(colour), label=plots.label(name)) for colour, name in names]
    how: dict[str, Any] = {"frameon": False, "fontsize": 7, "ncols": columns}
    figure.legend(handles=patches, loc="outside right upper", **how)
    return figure


def overlaid(image: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Images in grey, under the colours of classes, uint8 `[N, H, W, 3]`.

    Args:
      image: uint8 `[N, H, W, 3]`.
      classes: `[N, H, W]`; 255 gets no colour.
    """
    grey = image.mean(-1, keepdims=True).repeat(3, -1)
    known = classes != IGNORED
    colour = palette(int(classes[known].max(initial=0)) + 1)[np.where(known, classes, 0)]
    return np.where(known[..., None], _over(grey, colour), grey).round().astype(np.uint8)


def _over(grey: Any, colour: np.ndarray) -> np.ndarray:
    # Of half the contrast, so that no white below makes of a dark colour a pale one.
    return OPACITY * colour + (1 - OPACITY) * (grey + 128) / 2


def palette(classes: int) -> np.ndarray:
    """Colours of so many classes, uint8 `[C, 3]`; after nineteen they come again, each darker.

    Example:
      >>> print(palette(2))
      [[135  15  15]
       [  0 255   0]]
    """
    first = np.array([list(bytes.fromhex(each[1:])) for each in COLOURS])
    turn, place = np.divmod(np.arange(classes), len(COLOURS))
    return (first[place] * 0.6 ** turn[:, None]).astype(np.uint8)
