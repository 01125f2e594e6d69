"""A generator's images judged: their distances from real ones, samples, nearest training images.

    python -m experiments.gallery.generated_images runs/generators --method=CGAN \
        --judge=runs/mnist_judge --output=cgan.png

The run is one of `experiments.generate`, the judge one of `experiments.classify` on real images of
the same data set (`configs/mnist_judge.py`). For each test image one is generated, of its class;
`experiments/evaluation/judged.py` says what the numbers are, which are printed and written beside
the picture as JSON. The picture has ten samples of each class in a row and, of each class's first
sample, the five training images that are nearest by pixels and by the judge's features, as Figure
14 of the ISDA paper: what has been memorised would be found there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import ConfigError
from experiments.data.sources import Dataset
from experiments.evaluation import distances
from experiments.evaluation.judged import Judged, compared
from experiments.gallery import figure_file
from experiments.gallery.examples import trained_on
from experiments.report import tiles
from experiments.runs import commands, folder, generator, judging, load, networks, samples
from experiments.runs.load import Predictor
from experiments.runs.shown import shown
from experiments.training.feeds import MEASURED
from experiments.training.generator import Generator

NEIGHBOURS, SEED = 5, 0


class Neighbours(NamedTuple):
    """Generated images with the training images that are nearest.

    Attributes:
      image: one for each class, `[C, H, W, K]`, in [0, 1].
      by_pixels: `[C, k, H, W, K]`, as they are stored, the nearest first.
      by_features: the same by the classifier's features.
    """

    image: np.ndarray
    by_pixels: np.ndarray
    by_features: np.ndarray


def scores(made: Generator, judge: Predictor, split: dict[str, np.ndarray]) -> dict[str, object]:
    """The scores of `Judged` on as many generated images as there are real ones.

    Args:
      made: the generator.
      judge: the classifier.
      split: "image" `[N, H, W, K]` and "label" `[N]` of the real ones.
    """

    @jax.jit
    def measure(real: jax.Array, label: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
        one_hot = jax.nn.one_hot(label, made.classes)
        return compared(judge.network, real, made.draw(key, label), one_hot)

    key, parts = jax.random.key(SEED), []
    for i in range(0, len(split["label"]), MEASURED):
        real, label = (split[name][i : i + MEASURED] for name in ("image", "label"))
        found = measure(real, label.astype(np.int32), jax.random.fold_in(key, i))
        parts.append(jax.tree.map(np.asarray, found))
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return dict(Judged(judge.network).scores(rows))


def neighbours(image: np.ndarray, stored: np.ndarray, judge: Predictor) -> Neighbours:
    """The training images that are nearest to generated ones.

    Args:
      image: generated, `[C, H, W, K]`, in [0, 1].
      stored: what was trained on, `[N, H, W, K]`, uint8 or in [0, 1].
      judge: the classifier.
    """
    count = min(NEIGHBOURS, len(stored))
    scaled = stored / np.float32(255) if stored.dtype == np.uint8 else stored
    run = jax.jit(lambda image: judge.network(image).features)
    parts = [run(stored[i : i + MEASURED]) for i in range(0, len(stored), MEASURED)]
    features = np.concatenate([np.asarray(part, np.float32) for part in parts])
    by_pixels, _ = distances.nearest(image, scaled, count)
    by_features, _ = distances.nearest(np.asarray(run(image), np.float32), features, count)
    return Neighbours(image, stored[by_pixels], stored[by_features])


def draw(sampled: np.ndarray, near: Neighbours, class_names: tuple[str, ...]) -> Figure:
    """Three panels with a row for each class: samples, nearest by pixels, nearest by features."""
    first = tiles.as_bytes(near.image)[:, None]
    by_pixels, by_features = map(tiles.as_bytes, near[1:])
    panels: dict[str, Any] = {
        f"{sampled.shape[1]} samples": sampled,
        "one and the nearest training images by pixels": [first, by_pixels],
        "by the judge's features": [first, by_features],
    }
    wide = [np.concatenate(p, 1) if isinstance(p, list) else p for p in panels.values()]
    whole = [tiles.sheet(each) for each in wide]
    height, width = whole[0].shape[0], sum(each.shape[1] for each in whole)
    inches = 0.34 * len(sampled)
    figure = Figure(figsize=(1.5 + inches * width / height, 0.6 + inches), layout="constrained")
    ratios = [each.shape[1] for each in whole]
    every = figure.subplots(1, 3, squeeze=False, width_ratios=ratios)[0]
    for axes, title, picture in zip(every, panels, whole, strict=True):
        tiles.show(axes, picture, class_names if title == next(iter(panels)) else ())
        axes.set_title(title, fontsize=8)
    return figure


def judged(run: str, method: str, judge: str) -> tuple[dict[str, object], Figure]:
    """The scores of a run's generator, and the picture.

    Args:
      run: a work folder of `experiments.generate`.
      method: of the run; "" where there is only one.
      judge: see `judging.judge`.

    Raises:
      ConfigError: the classifier is of other images, or the data are streamed.
      ValueError: there is no such run, or it trained no generator.
    """
    found = load.trained(run, method or folder.read(run).only_method)
    made, known = generator.generator(found), judging.judge(judge, found.spec)
    data = networks.open_data(found.config)
    if not isinstance(data, Dataset):
        raise ConfigError(f"{run} is of images that are streamed: these are not judged.")
    sampled = samples.of_each_class(made)
    stored = data.train["image"][trained_on(found.config, data)]
    near = neighbours(sampled[:, 0], stored, known)
    return scores(made, known, data.test), draw(sampled, near, found.spec.class_names)


def _finite(found: dict[str, object]) -> dict[str, object]:
    """The scores, with None for what is not finite."""
    return {n: None if isinstance(v, float) and v != v else v for n, v in found.items()}


def main(run: str = "") -> None:
    """Writes the picture and the numbers, and prints these."""
    given = flags.FLAGS
    try:
        if not run or not given.judge:
            raise ConfigError("Name a work folder of experiments.generate, and --judge=FOLDER.")
        figure_file.check(given.output)
        found, figure = judged(run, given.method, given.judge)
        whole = {"run": run, "judge": given.judge, **_finite(found)}
        path = figure_file.write(figure, given.output, whole)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    for name, value in found.items():
        if isinstance(value, float):
            look = shown(name)
            print(f"{look.words}: {look.scale * value:.{look.decimals}f}")
    print(f"Written to {path} and {path.with_suffix('.json')}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "generated.png", "The PNG to write.")
    flags.DEFINE_string("method", "", "The method whose generator it is, where there are several.")
    flags.DEFINE_string("judge", "", "The work folder of a classifier of real images.")
    commands.run(main, arguments=True)
