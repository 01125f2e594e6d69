r"""Images before and after a network has moved them: Figures 3 and 4 of the SIGN paper.

    python -m experiments.gallery.signed runs/sign_quick/plain --method=classical \
        --normalize=rms --step=0.2 --output=signed.png

In the first line are a few images of every class, below it what `rj.signed` has made of them after
each number of iterations, and the differences, enlarged so that they are seen: grey is none. What
is beyond black and white is shown as these. Beside each line stand the mean |p* - p| in grey levels
and the network's accuracy, of more images than are drawn. Networks and moves are chosen as in
`python -m experiments.sign`; the numbers are written beside the picture as JSON.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments import ConfigError
from experiments.gallery import figure_file
from experiments.gallery.examples import by_class
from experiments.report import tiles
from experiments.runs import commands, signing, signing_flags
from experiments.runs.signing import LEVELS, Recipe, Source
from experiments.training import devices
from experiments.training.feeds import spaced

USAGE = "python -m experiments.gallery.signed runs/digits --method=baseline --output=signed.png"
DPI, CELL, BATCH = 150, 96, 50  # pixels an inch; pixels of an image; images that are moved together
SEEN = 0.99  # the share of differences that are not beyond black and white


class Shown(NamedTuple):
    """What is drawn, and the numbers beside it.

    Attributes:
      image: `[N, H, W, 1 or 3]` in units of 255 grey levels.
      copies: `[N, K, H, W, 1 or 3]` likewise, after each number of iterations.
      classes: the name of each image's class.
      measures: means of `signing.MEASURES`, of the images themselves and of each copy.
      measured: of how many images.
    """

    image: np.ndarray
    copies: np.ndarray
    classes: list[str]
    measures: dict[str, list[float]]
    measured: int


def chosen(source: Source, split: str, examples: int, images: int) -> tuple[np.ndarray, int]:
    """The places of so many images of a split, evenly spaced.

    Args:
      source: the network, and the images.
      split: one of the source's.
      examples: how many, 0 for all.
      images: how many are to be shown.

    Returns:
      The places, first those to be shown, and how many these are.

    Raises:
      ConfigError: there is no such split, or images have other channels than 1 or 3.
    """
    if split not in source.splits:
        raise ConfigError(f"--split={split} is none of the run's: {', '.join(source.splits)}.")
    channels = source.predictor.spec.shape[-1]
    if channels not in (1, 3):
        raise ConfigError(f"Images of {channels} channels cannot be drawn, but of 1 or 3.")
    places = source.splits[split]
    places = places[spaced(len(places), examples)]
    first = by_class(np.asarray(source.stored["label"][places]), images)
    return np.concatenate([places[first], np.delete(places, first)]), len(first)


def move(source: Source, recipe: Recipe, places: np.ndarray, images: int, bar: Any) -> Shown:
    """Moves images, of which the first are shown.

    Args:
      source: the network, and the images.
      recipe: how they are moved.
      places: of the images.
      images: how many are shown.
      bar: moved on by one for each.

    Raises:
      ConfigError: a copy is not finite.
    """
    call = signing.move(source, recipe, min(BATCH, len(places)))
    copies, sums = [], dict.fromkeys(signing.MEASURES, np.zeros(()))
    for start in range(0, len(places), BATCH):
        image, label = _stored(source, places[start : start + BATCH])
        moved, watched = call(image, label)
        copies.append(moved[: max(0, images - start)])
        sums = {name: x + watched[name].sum(0, np.float64) for name, x in sums.items()}
        bar.update(len(image))
    whole = np.concatenate(copies)
    if not np.isfinite(whole).all():
        raise ConfigError("A copy is not finite: take a smaller --step, --normalize=rms or --clip.")
    image, label = _stored(source, places[:images])
    names = [source.predictor.spec.class_names[i] for i in label]
    pixels = image / np.float32(LEVELS) if image.dtype == np.uint8 else image
    measures = {name: (x / len(places)).tolist() for name, x in sums.items()}
    return Shown(pixels, whole, names, measures, len(places))


def _stored(source: Source, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image, label = (np.asarray(source.stored[name][places]) for name in ("image", "label"))
    return image, label


def lines(shown: Shown, iterations: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the picture's lines: of each the label, and uint8 images `[N, H, W, 1 or 3]`."""
    distance, correct = (shown.measures[name] for name in ("distance", "correct"))
    yield f"before\naccuracy {100 * correct[0]:.1f} %", tiles.as_bytes(shown.image)
    for i, count in enumerate(iterations):
        copy = shown.copies[:, i]
        about = f"{count} iterations\nmoved {distance[i + 1]:.3g} grey levels"
        yield f"{about}\naccuracy {100 * correct[i + 1]:.1f} %", tiles.as_bytes(copy)
        times = enlargement(copy - shown.image)
        yield f"difference\ntimes {times:g}", tiles.as_bytes(0.5 + times * (copy - shown.image))


def enlargement(difference: np.ndarray) -> float:
    """What differences are multiplied by, with two digits: nearly all are then within a half."""
    size = np.quantile(np.abs(difference), SEEN) or np.abs(difference).max()
    return float(f"{0.5 / size:.2g}") if size else 1.0


def draw(shown: Shown, iterations: Sequence[int], cell: int = CELL) -> Figure:
    """The picture.

    Args:
      shown: what is drawn.
      iterations: after which there are copies.
      cell: as in `tiles.row`.
    """
    labels, images = zip(*lines(shown, iterations), strict=True)
    whole = tiles.sheet(np.stack(images), cell)
    height, width = len(whole) // len(labels), whole.shape[1] // len(shown.image)
    size = 1.6 + whole.shape[1] / DPI, 0.6 + len(whole) / DPI
    figure = Figure(size, DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(whole, interpolation="nearest")
    axes.set_xticks(width * (np.arange(len(shown.image)) + 0.5), shown.classes)
    axes.set_yticks(height * (np.arange(len(labels)) + 0.5), labels)
    longest = max(map(len, shown.classes))
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.tick_params("x", labelsize=min(8, max(3, 72 * width / DPI / longest / 0.6)))
    axes.tick_params("y", labelsize=min(8, 72 * height / DPI / 4))
    axes.set_frame_on(False)
    return figure


def main(*folders: str) -> None:
    """Writes the picture and its numbers, and prints these."""
    given = flags.FLAGS
    try:
        figure_file.check(given.output)
        devices.check()
        recipe = signing_flags.recipe()
        source = signing_flags.opened(folders, USAGE)
        places, images = chosen(source, given.split, given.examples, given.images)
        with tqdm(total=len(places), unit="image", dynamic_ncols=True) as bar:
            shown = move(source, recipe, places, images, bar)
        about = {**source.about, "recipe": dataclasses.asdict(recipe), "split": given.split}
        numbers = {**about, "measured": shown.measured, "measures": shown.measures}
        figure = draw(shown, recipe.iterations, given.cell)
        path = figure_file.write(figure, given.output, numbers)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    print(signing.table(recipe.iterations, shown.measures))
    print(f"Of {shown.measured} images. Written to {path} and {path.with_suffix('.json')}")


if __name__ == "__main__":
    signing_flags.define()
    flags.DEFINE_string("output", "signed.png", "The PNG to write.")
    flags.DEFINE_string("split", "train", "Whose images: train, or that which is scored.")
    flags.DEFINE_integer("images", 10, "Images that are drawn.", lower_bound=1)
    flags.DEFINE_integer("examples", 200, "Images that are moved; 0 for all.", lower_bound=0)
    flags.DEFINE_integer("cell", CELL, "Pixels of an image in the picture.", lower_bound=8)
    commands.run(main, arguments=True)
