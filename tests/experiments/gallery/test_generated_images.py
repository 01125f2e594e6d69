"""A toy generator's images judged: scores, neighbours that are known, the picture.

Covers `judging.py` too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from experiments import ConfigError
from experiments.data.spec import Spec
from experiments.gallery import generated_images
from experiments.report.tiles import GAP
from experiments.runs import judging, samples
from experiments.runs.load import Predictor
from experiments.training.generator import Generator

CLASSES, SHAPE = 3, (1, 3, 1)


def _bright(scale: jax.Array, told: jax.Array) -> jax.Array:
    """In [-1, 1], the class's pixel at the scale and the others a little below 0."""
    noise = 0.1 * jnp.tanh(told[:, :CLASSES])
    return (scale * told[:, CLASSES:] + noise - 0.1)[:, None, :, None]


MADE = Generator(rj.from_function(_bright, jnp.float32(0.9)), CLASSES, CLASSES, SHAPE)


def _judge(features: bool = True) -> Predictor:
    def network(params: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        scaled = image.astype(jnp.float32) / (255.0 if image.dtype == jnp.uint8 else 1.0)
        flat = scaled.reshape(len(image), -1)
        return flat, params[None] * flat

    def logits(params: jax.Array, image: jax.Array) -> jax.Array:
        return network(params, image)[0]

    # Of three features the last says nearly all.
    weight = jnp.array([0.0, 0.0, 1.0])
    if features:
        forward = rj.from_function(network, weight, head=lambda p: (jnp.eye(CLASSES), None))
    else:
        forward = rj.from_function(logits, weight)
    example = {"image": jax.ShapeDtypeStruct(SHAPE, np.uint8)}
    return Predictor(forward, Spec(example, CLASSES, ("a", "b", "c")))


def test_scores_are_of_as_many_generated_images_as_real_ones() -> None:
    label = np.arange(300) % CLASSES
    image = np.where(np.eye(CLASSES, dtype=bool)[label], 240, 110).astype(np.uint8)
    split = {"image": image[:, None, :, None], "label": label.astype(np.int64)}
    found = generated_images.scores(MADE, _judge(), split)
    assert found["gan_test"] == found["judge_accuracy"] == 1.0
    assert found["gan_test_by_class"] == [1.0] * CLASSES
    # What is real is always the same, and what is generated never.
    assert found["neighbours_real"] == 1.0
    assert found == generated_images.scores(MADE, _judge(), split)


def test_the_nearest_by_pixels_and_by_features_are_found() -> None:
    stored = np.array([[255, 0, 0], [0, 255, 0], [9, 9, 128], [0, 0, 250]], np.uint8)
    stored = stored[:, None, :, None]
    image = np.array([[1.0, 0.0, 0.5]], np.float32)[:, None, :, None]
    near = generated_images.neighbours(image, stored, _judge())
    assert near.by_pixels.shape == (1, 4, *SHAPE)
    np.testing.assert_array_equal(near.by_pixels[0, 0], stored[0])
    np.testing.assert_array_equal(near.by_features[0, 0], stored[2])
    np.testing.assert_array_equal(near.by_features[0, 1], stored[3])


def test_the_picture_has_a_row_for_each_class_and_three_panels() -> None:
    sampled = samples.of_each_class(MADE)
    assert sampled.shape == (CLASSES, 10, *SHAPE)
    np.testing.assert_array_equal(sampled.reshape(CLASSES, 10, 3).argmax(-1).T, [[0, 1, 2]] * 10)
    stored = (sampled.reshape(-1, *SHAPE)[:6] * 255).astype(np.uint8)
    near = generated_images.neighbours(sampled[:, 0], stored, _judge())
    figure = generated_images.draw(sampled, near, ("a", "b", "c"))
    first, *rest = figure.axes
    assert len(rest) == 2
    assert [text.get_text() for text in first.get_yticklabels()] == ["a", "b", "c"]
    assert rest[0].images[0].get_array().shape == (3 * (1 + GAP), 6 * (3 + GAP), 3)


def test_a_judge_of_other_images_or_without_features_is_refused(monkeypatch, tmp_path) -> None:
    example = {"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8)}
    monkeypatch.setattr(judging, "load_predictor", lambda name, method: _judge(method != "blind"))
    with pytest.raises(ConfigError, match=r"is of images \[1, 3, 1\] of 3 classes, but these are"):
        judging.judge("runs/judge:plain", Spec(example, CLASSES, ()))
    own = _judge().spec
    assert judging.judge("runs/judge:plain", own).spec == own
    with pytest.raises(ConfigError, match="has no features"):
        judging.judge("runs/judge:blind", own)
    with pytest.raises(ConfigError, match=r"can judge: .*holds no config\.json"):
        judging.judge(tmp_path, own)
