"""The features of a comparison's networks in the plane, by t-SNE: Figure 8 of the ISDA paper.

    python -m experiments.gallery.feature_map runs/isda_figure8 --output=feature_map.png

Of every method the first seed's network, at its chosen strength, sees so many test images, or with
`--trained` images that it was trained on; what comes before its last layer is brought to the plane
by scikit-learn's t-SNE. Pictures of that kind deceive, so that two numbers stand beside each: how
much t-SNE loses (its KL divergence), and the share of the images whose class is that of most of
their 10 nearest neighbours, among the features and in the plane. The picture is written, and the
numbers beside it as JSON.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from experiments import ConfigError
from experiments.data.sources import Dataset
from experiments.gallery import figure_file
from experiments.gallery.examples import trained_on
from experiments.runs import commands, entries, folder, imports, load, networks
from experiments.training.feeds import MEASURED, spaced

NEIGHBOURS, PERPLEXITY, SEED = 10, 30.0, 0
SHOWN = ("divergence", "in_features", "in_plane")


class Map(NamedTuple):
    """A method's features in the plane.

    Attributes:
      plane: `[N, 2]`.
      divergence: t-SNE's KL divergence, nats.
      in_features: the neighbours' score among the features, from 0 to 1.
      in_plane: the same in the plane.
    """

    plane: np.ndarray
    divergence: float
    in_features: float
    in_plane: float


def neighbour_score(points: np.ndarray, label: np.ndarray) -> float:
    """The share of points whose class most of their `NEIGHBOURS` nearest others have.

    Args:
      points: `[N, A]`, more than NEIGHBOURS.
      label: `[N]` ints from 0 on.
    """
    searched = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(points)
    # Without points of their own, each is no neighbour of itself.
    near = label[searched.kneighbors(return_distance=False)]
    votes = (near[:, :, None] == np.arange(label.max() + 1)).sum(1)
    return float(np.mean(votes.argmax(1) == label))


def mapped(features: np.ndarray, label: np.ndarray) -> Map:
    """Features `[N, A]` in the plane, always in the same way."""
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    machine = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=SEED)
    plane = machine.fit_transform(features)
    scores = (neighbour_score(each, label) for each in (features, plane))
    return Map(plane, float(machine.kl_divergence_), *scores)


def features_of(predictor: load.Predictor, image: np.ndarray) -> np.ndarray:
    """The features `[N, A]`, float32, of stored images `[N, H, W, K]`.

    Raises:
      ConfigError: the network has none.
    """
    run = jax.jit(lambda image: predictor.network(image).features)
    parts = [run(image[i : i + MEASURED]) for i in range(0, len(image), MEASURED)]
    if parts[0] is None:
        raise ConfigError("The network returns logits only, and there are no features to map.")
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def maps(workdir: str, examples: int, trained: bool = False) -> tuple[dict[str, Map], np.ndarray]:
    """Every method's map, by name, and the classes of the images.

    Args:
      workdir: of a comparison with one training size.
      examples: how many test images, evenly spaced.
      trained: whether these are the images that the first seed was trained on instead.

    Raises:
      ConfigError: it has not finished, several training sizes, or too few images.
    """
    found = folder.read(workdir)
    imports.load(found.config)
    if not found.chosen or len(found.config["train_sizes"]) > 1:
        raise ConfigError(f"{workdir} must hold finished networks of one training size.")
    config = entries.complete(found.config)
    data = networks.open_data(config)
    if not isinstance(data, Dataset):
        raise ConfigError(f"{workdir} is of images that are streamed: these are not mapped.")
    split, every = data.test, np.arange(len(data.test["label"]))
    if trained:
        split, every = data.train, trained_on(config, data)
    at = every[spaced(len(every), examples)]
    if len(at) <= NEIGHBOURS:
        raise ConfigError(f"--examples={examples} must be more than {NEIGHBOURS} neighbours.")
    image, label = split["image"][at], split["label"][at]
    result = {}
    for row in found.chosen:
        predictor = load.load_predictor(workdir, row.method, strength=row.strength)
        result[row.method] = mapped(features_of(predictor, image), label)
    return result, label


def draw(found: dict[str, Map], label: np.ndarray) -> Figure:
    """A panel for each method, a colour for each class."""
    figure = Figure(figsize=(4.2 * len(found), 4.6), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    colours = "tab10" if label.max() < 10 else "tab20" if label.max() < 20 else "turbo"
    for axes, (name, each) in zip(panels, found.items(), strict=True):
        axes.scatter(*each.plane.T, s=4, c=label, cmap=colours, linewidths=0)
        axes.set(xticks=[], yticks=[], title=name)
        axes.set_xlabel(f"KL {each.divergence:.3f}, 10-NN {100 * each.in_features:.1f} %")
    return figure


def main(workdir: str = "") -> None:
    """Writes the figure and its numbers, and prints these."""
    output = flags.FLAGS.output
    try:
        if not workdir:
            raise ConfigError("Name the work folder of a comparison.")
        figure_file.check(output)
        found, label = maps(workdir, flags.FLAGS.examples, flags.FLAGS.trained)
        numbers = {name: {n: getattr(each, n) for n in SHOWN} for name, each in found.items()}
        path = figure_file.write(draw(found, label), output, numbers)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    for name, each in found.items():
        print(
            f"{name}: KL divergence {each.divergence:.3f}; 10 nearest neighbours "
            f"{100 * each.in_features:.1f} % among the features, {100 * each.in_plane:.1f} % in "
            "the plane"
        )
    print(f"Written to {path} and {path.with_suffix('.json')}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "feature_map.png", "The PNG to write.")
    flags.DEFINE_integer("examples", 2000, "Images to show; 0 for all.", lower_bound=0)
    flags.DEFINE_bool("trained", False, "Images that were trained on, in place of test images.")
    commands.run(main, arguments=True)
