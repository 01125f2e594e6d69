"""What generated images are worth to a classifier that was trained on real ones.

For each test image one is generated, of the same class; the classifier's features of both are
compared, see `distances.py`, and it is asked what the generated ones show (GAN-test). All numbers
are of this classifier, and compare only under the same one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import regjax as rj
from experiments.evaluation import distances
from experiments.evaluation.classification import measured
from experiments.evaluation.metrics import METRICS, Rows, Value, metric

# Of either kind so many are searched for neighbours, and told apart.
LOOKED_AT = 2000
FEATURES = ("real", "fake")

Judge = Callable[[jax.Array], rj.Outputs]


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """An evaluation of tasks with a `generator`.

    Attributes:
      judge: the classifier, of stored images or pixels in [0, 1]; its outputs have features.
    """

    judge: Judge

    def measure(self, task: Any, state: Any, examples: Any) -> dict[str, jax.Array]:
        """The classifier's features and answers of each example and of an image made for it.

        Args:
          task: with `batch` and `generator`.
          state: of a trained run.
          examples: as stored; their numbers are what latents are drawn by.

        Returns:
          "real" and "fake" `[B, A]`, float32; "label", "prediction" of the generated image and
          "real_prediction", ints `[B]`.
        """
        batch = task.batch(examples)
        label = jnp.argmax(batch.label, -1)
        keys = rj.example_keys(jax.random.key(0), batch)
        fake = task.generator(state).drawn(keys, label)
        return compared(self.judge, examples.stored["image"], fake, batch.label)

    def scores(self, rows: Rows) -> dict[str, Value]:
        """The metrics of `NAMES`."""
        return {name: METRICS[name](rows) for name in NAMES}


def compared(judge: Judge, real: jax.Array, fake: jax.Array, label: jax.Array) -> dict[str, Any]:
    """What `Judged.measure` returns of images of either kind, `[B, H, W, K]`.

    Args:
      judge: the classifier.
      real: images as they are stored.
      fake: generated ones, one for each, in [0, 1].
      label: one-hot, `[B, C]`, all 0 where an example is left out.

    Raises:
      ValueError: the classifier returns no features.
    """
    one, other = judge(real), judge(fake)
    if one.features is None or other.features is None:
        raise ValueError("the classifier that judges returns logits only: it must have features.")
    answers = [measured(("label", "prediction"), each.logits, label) for each in (other, one)]
    features = (x.astype(jnp.float32) for x in (one.features, other.features))
    return {
        **dict(zip(FEATURES, features, strict=True)),
        **answers[0],
        "real_prediction": answers[1]["prediction"],
    }


@metric(
    needs=("label", "prediction"),
    words="GAN-test: generated images recognised (%)",
    percent=True,
    decimals=2,
)
def gan_test(rows: Rows) -> Value:
    """The share of generated images in which the classifier sees the class that was asked for.

    See "How good is my GAN?" (Shmelkov et al., 2018), section 3. Without labels, of which an
    unconditional generator is told nothing, it is the chance of a class.
    """
    return float(np.mean(rows["label"] == rows["prediction"]))


@metric(
    needs=("label", "real_prediction"), words="real images recognised (%)", percent=True, decimals=2
)
def judge_accuracy(rows: Rows) -> Value:
    """The share of the real images that the classifier recognises, what `gan_test` may reach."""
    return float(np.mean(rows["label"] == rows["real_prediction"]))


@metric(
    needs=("label", "prediction"),
    words="GAN-test by class (%)",
    percent=True,
    decimals=2,
    larger_is_better=None,
)
def gan_test_by_class(rows: Rows) -> Value:
    """The same of each class that occurs, and None for others."""
    label, right = rows["label"], rows["label"] == rows["prediction"]
    places = [label == c for c in range(int(label.max()) + 1)]
    return [float(np.mean(right[of])) if of.any() else None for of in places]


@metric(
    needs=("label", *FEATURES), words="kernel distance (MMD²)", decimals=4, larger_is_better=False
)
def kernel_distance(rows: Rows) -> Value:
    """KID's form in the classifier's features: the mean over 100 subsets of 1,000."""
    return _kernel(rows, 0)


@metric(needs=("label", *FEATURES), words="its deviation", decimals=4, larger_is_better=False)
def kernel_deviation(rows: Rows) -> Value:
    """The standard deviation of `kernel_distance` over the subsets."""
    return _kernel(rows, 1)


@metric(
    needs=("label", *FEATURES), words="Fréchet distance in own features", larger_is_better=False
)
def frechet_distance(rows: Rows) -> Value:
    """The distance that is the FID in Inception's features, here in the classifier's."""
    return float("nan") if _broken(rows) else distances.frechet_distance(*_features(rows))


@metric(
    needs=("label", *FEATURES),
    words="1-NN of real (%)",
    percent=True,
    decimals=1,
    larger_is_better=False,
)
def neighbours_real(rows: Rows) -> Value:
    """Real images whose nearest other is real; 50 % is best, more says that kinds are missing."""
    return _neighbours(rows, 0)


@metric(
    needs=("label", *FEATURES),
    words="1-NN of generated (%)",
    percent=True,
    decimals=1,
    larger_is_better=False,
)
def neighbours_fake(rows: Rows) -> Value:
    """Generated images whose nearest other is generated; 50 % is best, less says copies."""
    return _neighbours(rows, 1)


@metric(
    needs=("label", *FEATURES),
    words="told from real (%)",
    percent=True,
    decimals=1,
    larger_is_better=False,
)
def two_sample(rows: Rows) -> Value:
    """How well a logistic regression tells generated from real; 50 % is best."""
    return _two_sample(rows, 0)


@metric(
    needs=("label", *FEATURES),
    words="its standard error (%)",
    percent=True,
    decimals=1,
    larger_is_better=False,
)
def two_sample_error(rows: Rows) -> Value:
    """The standard error of `two_sample` where both are of one distribution."""
    return _two_sample(rows, 1)


NAMES = (
    "gan_test",
    "judge_accuracy",
    "gan_test_by_class",
    "kernel_distance",
    "kernel_deviation",
    "frechet_distance",
    "neighbours_real",
    "neighbours_fake",
    "two_sample",
    "two_sample_error",
)


def _features(rows: Rows, most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Of real and generated images, evenly spaced where at most so many are asked for."""
    count = len(rows["real"])
    at = (
        np.arange(count) if most is None else np.linspace(0, count - 1, min(most, count), dtype=int)
    )
    return rows["real"][at], rows["fake"][at]


def _broken(rows: Rows) -> bool:
    """Whether there are too few, or a network diverged and features are not finite."""
    few = len(rows["real"]) < 4
    return few or not all(np.isfinite(rows[name]).all() for name in FEATURES)


def _kernel(rows: Rows, at: int) -> float:
    return float("nan") if _broken(rows) else distances.kernel_distance(*_features(rows))[at]


def _neighbours(rows: Rows, at: int) -> float:
    if _broken(rows):
        return float("nan")
    return distances.nearest_neighbour_accuracy(*_features(rows, LOOKED_AT))[at]


def _two_sample(rows: Rows, at: int) -> float:
    if _broken(rows):
        return float("nan")
    return distances.two_sample_test(*_features(rows, LOOKED_AT))[at]
