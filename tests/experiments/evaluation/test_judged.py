"""A generator whose images are known, judged by a classifier whose answers are."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_answers import Examples
from tiny_answers import Task as Classified

import regjax as rj
from experiments.evaluation import distances, metrics
from experiments.evaluation.judged import NAMES, Judged
from experiments.training.generator import Generator

CLASSES, COUNT = 3, 60


@dataclasses.dataclass(frozen=True)
class Task:
    """With a generator whose pixel of its class is bright, by `state`, among dim noise."""

    def generator(self, state: jax.Array) -> Generator:
        def network(bright: jax.Array, told: jax.Array) -> jax.Array:
            noise = 0.1 * jnp.tanh(told[:, :CLASSES])
            return (bright * told[:, CLASSES:] + noise)[:, None, :, None]

        return Generator(rj.from_function(network, state), CLASSES, CLASSES, (1, CLASSES, 1))

    def batch(self, examples: Examples) -> rj.Batch:
        return Classified(classes=CLASSES).batch(examples)


def judge(image: jax.Array) -> rj.Outputs:
    """Sees the brightest pixel's class; its features are the pixels."""
    scaled = image.astype(jnp.float32) / (255.0 if image.dtype == jnp.uint8 else 1.0)
    flat = scaled.reshape(len(image), -1)
    return rj.Outputs(flat, flat)


def examples() -> Examples:
    label = np.arange(COUNT, dtype=np.int32) % CLASSES
    dim = np.random.default_rng(0).integers(100, 155, (COUNT, CLASSES))
    image = np.where(np.eye(CLASSES, dtype=bool)[label], 255, dim).astype(np.uint8)
    label[-3:] = -1  # to be left out
    image = image[:, None, :, None]
    return Examples({"image": image, "label": label}, np.arange(COUNT, dtype=np.int32))


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    return measured(1.0)


def measured(bright: float) -> dict[str, np.ndarray]:
    found = Judged(judge).measure(Task(), jnp.float32(bright), examples())
    return {name: np.asarray(x) for name, x in found.items()}


def test_each_test_image_has_a_generated_one_of_its_class(rows: dict[str, np.ndarray]) -> None:
    assert rows["real"].shape == rows["fake"].shape == (COUNT, CLASSES)
    np.testing.assert_array_equal(rows["prediction"][:-3], np.arange(COUNT - 3) % CLASSES)
    np.testing.assert_array_equal(rows["label"][-3:], -1)
    # The same for the same number, others for others.
    np.testing.assert_array_equal(measured(1.0)["fake"], rows["fake"])
    assert len(np.unique(rows["fake"], axis=0)) == COUNT


def test_scores_are_those_of_the_features(rows: dict[str, np.ndarray]) -> None:
    found = Judged(judge).scores(rows)
    assert tuple(found) == NAMES
    assert {*NAMES} <= {*metrics.METRICS}
    assert found["gan_test"] == found["judge_accuracy"] == 1.0
    assert found["gan_test_by_class"] == [1.0] * CLASSES
    real, fake = (rows[name][:-3] for name in ("real", "fake"))
    kernel = distances.kernel_distance(real, fake)
    assert (found["kernel_distance"], found["kernel_deviation"]) == kernel
    assert found["frechet_distance"] == distances.frechet_distance(real, fake)
    parts = distances.nearest_neighbour_accuracy(real, fake)
    assert (found["neighbours_real"], found["neighbours_fake"]) == parts
    told = distances.two_sample_test(real, fake)
    assert (found["two_sample"], found["two_sample_error"]) == told


def test_a_generator_that_shows_another_class_is_not_recognised() -> None:
    found = Judged(judge).scores(measured(-1.0))
    assert (found["gan_test"], found["judge_accuracy"]) == (0.0, 1.0)


def test_what_diverged_has_no_distance_and_is_never_right() -> None:
    found = Judged(judge).scores(measured(float("nan")))
    assert found["gan_test"] == 0.0
    for name in NAMES[3:]:
        assert np.isnan(found[name]), name


def test_a_judge_without_features_is_refused() -> None:
    blind = Judged(lambda image: rj.Outputs(judge(image).logits, None))
    with pytest.raises(ValueError, match="must have features"):
        blind.measure(Task(), jnp.float32(1.0), examples())
