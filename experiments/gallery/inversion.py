"""Images of moved features: Figures 6, 7 and 13 of the ISDA paper.

    python -m experiments.gallery.inversion runs/isda --generator=runs/generators:acgan \
        --judge=runs/mnist_judge --output=inversion.png

For test images of every class, step I looks for the generator's latents whose images are nearest to
them, in the features of a run of `experiments.classify` and in pixels, eq. (20); step II goes on
from there to features that are moved: as ISDA moves them, in random directions, and in those of
another class, all three as far, eq. (21). Without `--generator` the pixels are searched for, from
the images themselves, which solve step I.

The covariances are those that ISDA kept in training, or, of a run without them, of the features of
the images that it was trained on. Features are measured in units of the root of their total
variance, so that the published learning rates serve networks of any scale, and errors are shares of
that variance. Beside the picture stand, of all images that were searched for, the errors and the
share that an independent classifier, the judge, puts into the class that the features came from;
with more numbers they are written beside it as JSON.

A generator that is told the class keeps it by itself. Whether the features do is then better seen
by what can be reached at all, or with a generator without labels, or with pixels.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import ConfigError
from experiments.data.sources import Dataset
from experiments.gallery import directions, figure_file, latent_search
from experiments.gallery.examples import by_class, trained_on
from experiments.gallery.feature_map import features_of
from experiments.gallery.inversion_sheet import Row, draw, table
from experiments.gallery.latent_search import Found, Near, Search
from experiments.runs import commands, folder, generator, judging, load, networks
from experiments.runs.load import Predictor, Trained
from experiments.training.generator import Generator

SEED = 0


class Settings(NamedTuple):
    """How images are searched for.

    Attributes:
      images: how many.
      iterations: of each step.
      rates: the first learning rates of steps I and II.
      eta: what a squared pixel counts in step I.
      strength: lambda, of the covariances.
      draws: moved features of each image and kind of directions.
    """

    images: int
    iterations: int
    rates: tuple[float, float]
    eta: float
    strength: float
    draws: int


class Source(NamedTuple):
    """A classifier, what is known of its features, and test images.

    Attributes:
      predictor: the classifier.
      scale: the root of the features' total variance.
      covariance: of each class, `[C, A, A]`, in units of that variance.
      kept: whether it is ISDA's own.
      image: in [0, 1], `[N, H, W, K]`.
      label: int32 `[N]`.
    """

    predictor: Predictor
    scale: float
    covariance: jax.Array
    kept: bool
    image: np.ndarray
    label: np.ndarray

    def features(self, image: jax.Array) -> jax.Array:
        """The features `[N, A]` in units of `scale`."""
        found = self.predictor.network(image).features
        assert found is not None
        return found.astype(jnp.float32) / self.scale


def source(run: str, images: int) -> Source:
    """The classifier of a run, `FOLDER` or `FOLDER:METHOD`, and so many test images, by class.

    Raises:
      ConfigError: the network has no features, or the data are streamed or masks.
      ValueError: there is no such run, or several.
    """
    found, data = _trained(run)
    predictor, at = load.predictor(found), trained_on(found.config, data)
    features = features_of(predictor, data.train["image"][at])
    scale = float(np.sqrt(features.var(0).sum()))
    if not scale:
        raise ConfigError(f"The features of {run} are the same for all images: nothing can move.")
    matrix = directions.kept(found.state.loss_state)
    label = jnp.asarray(data.train["label"][at], jnp.int32)
    classes = found.spec.classes
    own = directions.estimated(jnp.asarray(features), label, classes) if matrix is None else matrix
    tests = by_class(np.asarray(data.test["label"]), images)
    image = data.test["image"][tests]
    image = image / np.float32(255) if image.dtype == np.uint8 else image.astype(np.float32)
    labels = data.test["label"][tests].astype(np.int32)
    return Source(predictor, scale, own / scale**2, matrix is not None, image, labels)


def _trained(run: str) -> tuple[Trained, Dataset]:
    name, method = folder.parts(run)
    known = folder.read(name)
    method = method or known.only_method
    chosen = {row.method: row.strength for row in known.chosen}
    found = load.trained(name, method, strength=chosen.get(method))
    if found.spec.example["label"].shape:
        raise ConfigError(f"{run} is of masks: features of whole images are moved.")
    data = networks.open_data(found.config)
    if not isinstance(data, Dataset):
        raise ConfigError(f"{run} is of images that are streamed: these are not searched for.")
    return found, data


def opened(run: str, predictor: Predictor) -> Generator:
    """The generator of a run, `FOLDER` or `FOLDER:METHOD`, of the classifier's images.

    Raises:
      ConfigError: it is of images of another shape, or of other classes.
      ValueError: there is no such run, or it trained no generator.
    """
    made = generator.load(*folder.parts(run))
    theirs = tuple(made.image_shape), made.classes
    ours = tuple(predictor.spec.shape), predictor.spec.classes
    if theirs != ours:
        raise ConfigError(
            f"--generator={run} makes images {list(theirs[0])} of {theirs[1]} classes, but the "
            f"classifier is of {list(ours[0])} of {ours[1]}: name one of the same data set."
        )
    return made


def inverted(
    known: Source, made: Generator | None, settings: Settings, bar: tqdm
) -> tuple[Found, dict[str, Found]]:
    """Steps I and II: what was found for the images, and for features moved in each way.

    Args:
      known: the classifier and its images.
      made: the generator; None to search for pixels.
      settings: how.
      bar: moved on by a step for each.
    """
    stored = {"image": jnp.asarray(known.image), "label": jnp.asarray(known.label)}
    target = np.asarray(jax.jit(known.features)(stored["image"]))
    first, second = (
        Near(target, np.float32(eta), np.float32(rate))
        for eta, rate in zip((settings.eta, 0.0), settings.rates, strict=True)
    )
    steps, classes = settings.iterations, known.predictor.spec.classes
    if made is None:
        start = latent_search.normalised(stored["image"].reshape(len(target), -1))
        task = Search(latent_search.by_pixels, known.features, start, classes, steps)
        found = latent_search.reached(task, start[None], [first], stored)
        bar.update(steps)
    else:
        start = jax.random.normal(jax.random.key(SEED), (len(target), made.latents))
        make = latent_search.by_generator(made)
        task = Search(make, known.features, start, classes, steps)
        found = latent_search.search(task, stored, [first], bar)
    task = Search(task.make, task.features, jnp.asarray(found.latent[0]), classes, steps)
    moves = _moves(known, settings)
    targets = [target + each for own in moves.values() for each in own]
    wanted = [dataclasses.replace(second, target=each) for each in targets]
    every, draws = latent_search.search(task, stored, wanted, bar), settings.draws
    return found, {name: every.part(i * draws, draws) for i, name in enumerate(moves)}


def _moves(known: Source, settings: Settings) -> dict[str, np.ndarray]:
    """What is added to the features, `[M, N, A]`, by the kind of directions."""
    key, label = jax.random.key(SEED + 1), jnp.asarray(known.label)
    every = directions.alternatives(known.covariance)
    move = functools.partial(directions.draw, strength=settings.strength, draws=settings.draws)
    return {name: np.asarray(move(key, matrix, label)) for name, matrix in every.items()}


def rows(
    known: Source, found: Found, moved: dict[str, Found], judge: Predictor | None
) -> list[Row]:
    """What is shown: the images, what was found for them, and for what was moved in each way."""
    nothing = np.zeros((1, len(known.label)))
    own = Found(nothing, known.image[None], nothing, nothing)
    every = {"original": own, "reconstructed": found, **moved}
    kept = {name: _kept(each.image, known.label, judge) for name, each in every.items()}
    return [Row(n, each.image, each.features, each.pixels, kept[n]) for n, each in every.items()]


def _kept(image: np.ndarray, label: np.ndarray, judge: Predictor | None) -> float | None:
    """The share of images `[R, N, H, W, K]` in whose class the judge finds them."""
    if judge is None:
        return None
    logits = np.asarray(jax.jit(lambda x: jax.lax.map(judge, x))(image))
    return float(np.mean(logits.argmax(-1) == label))


def rates(texts: list[str]) -> tuple[float, float]:
    """The first learning rates of steps I and II; ConfigError unless they are two numbers above 0.

    Example:
      `rates(["10", "1"]) == (10.0, 1.0)`
    """
    try:
        first, second = map(float, texts)
        if 0 < first < np.inf and 0 < second < np.inf:
            return first, second
    except ValueError:
        pass
    raise ConfigError(f"--rates={','.join(texts)} must be two numbers above 0, as in --rates=10,1.")


def _settings() -> Settings:
    given = flags.FLAGS
    first = given.images, given.iterations, rates(given.rates)
    return Settings(*first, given.eta, given.strength, given.draws)


def main(run: str = "") -> None:
    """Writes the picture and the numbers, and prints these."""
    given = flags.FLAGS
    try:
        if not run:
            raise ConfigError("Name the work folder of a classifier, of experiments.classify.")
        figure_file.check(given.output)
        settings = _settings()
        known = source(run, settings.images)
        spec = known.predictor.spec
        made = opened(given.generator, known.predictor) if given.generator else None
        judge = judging.judge(given.judge, spec) if given.judge else None
        with tqdm(total=2 * settings.iterations, unit="step", dynamic_ncols=True) as bar:
            found = rows(known, *inverted(known, made, settings, bar), judge)
        about: dict[str, Any] = {"run": run, "generator": given.generator, "judge": given.judge}
        about |= {"covariances": "ISDA's" if known.kept else "estimated", **settings._asdict()}
        whole = {**about, "rows": {row.name: row.numbers() for row in found}}
        figure = draw(found, known.label, spec.class_names)
        path = figure_file.write(figure, given.output, whole)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    print(table(found))
    print(f"Covariances: {about['covariances']}. Of {len(known.label)} images.")
    print(f"Written to {path} and {path.with_suffix('.json')}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "inversion.png", "The PNG to write.")
    flags.DEFINE_string("generator", "", "FOLDER or FOLDER:METHOD; pixels are sought without one.")
    flags.DEFINE_string("judge", "", "FOLDER or FOLDER:METHOD of an independent classifier.")
    flags.DEFINE_integer("images", 64, "Test images, of all classes in turn.", lower_bound=1)
    flags.DEFINE_integer("iterations", 1000, "Of each step; 10,000 in the paper.", lower_bound=1)
    flags.DEFINE_list("rates", ["10", "1"], "The first learning rates of steps I and II.")
    flags.DEFINE_float("eta", 0.001, "What a squared pixel counts in step I.", lower_bound=0)
    flags.DEFINE_float("strength", 0.5, "Lambda, of the covariances.", lower_bound=0)
    flags.DEFINE_integer("draws", 2, "Moved features of each image and kind.", lower_bound=1)
    commands.run(main, arguments=True)
