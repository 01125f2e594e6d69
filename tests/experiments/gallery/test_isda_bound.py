"""ISDA's bound over a training: the three losses against NumPy, their order, the figure."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_folders

import regjax as rj
from experiments import ConfigError
from experiments.data import subsets
from experiments.data.sources import Dataset
from experiments.gallery import examples, isda_bound
from experiments.runs import entries

A, C, B, STRENGTH, SAMPLES = 3, 4, 8, 0.5, 2000


def problem():
    rng = np.random.default_rng(0)
    kernel, features = rng.normal(size=(A, C)), rng.normal(size=(B, A))
    label = np.arange(B) % C
    forward = rj.from_function(
        lambda p, x: (x @ p, x), jnp.asarray(kernel, jnp.float32), head=lambda p: (p, None)
    )
    batch = rj.Batch(
        jnp.asarray(features, jnp.float32),
        jnp.eye(C)[label],
        jnp.arange(B, dtype=jnp.int32),
    )
    return kernel, features, label, forward, batch


def test_the_losses_are_those_of_their_definitions():
    """With the identity for all covariances; sampling has a standard error."""
    kernel, features, label, forward, batch = problem()
    found = np.asarray(isda_bound.losses(forward, batch, None, jnp.float32(STRENGTH), SAMPLES))
    z, own = features @ kernel, kernel[:, label].T
    spread = STRENGTH / 2 * ((kernel.T[None] - own[:, None]) ** 2).sum(-1)
    for row, logits in ((0, z), (2, z + spread)):
        expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(B), label]
        np.testing.assert_allclose(found[row], expected, rtol=1e-5)
    noise = np.random.default_rng(1).normal(size=(20_000, 1, A)) * STRENGTH**0.5
    moved = (features[None] + noise) @ kernel
    draws = np.log(np.exp(moved).sum(-1)) - moved[:, np.arange(B), label]
    error = draws.std(0) * (1 / SAMPLES + 1 / 20_000) ** 0.5
    assert (np.abs(found[1] - draws.mean(0)) < 4 * error).all()
    assert (found[0] <= found[1] + 3 * error).all()
    assert (found[1] <= found[2] + 3 * error).all()


def test_the_figure_has_three_curves_over_the_steps():
    points = [isda_bound.Point(i, 0.1 * i, 1.0, 1.1, 1.2) for i in (1, 2)]
    (axes,) = isda_bound.draw(points).axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2]] * 3


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("cross_entropy | l2(weight=0.1)", "its base must be isda"),
        ("isda(strength=0.5, shrinkage=0.1)", "shrinkage, with which the bound is not measured"),
    ],
)
def test_other_losses_are_refused(loss, said):
    run = SimpleNamespace(loss=loss, steps=10)
    with pytest.raises(ValueError, match=said):
        isda_bound._point(SimpleNamespace(growing=()), 1, run, {}, 2)


def test_several_training_sizes_are_refused(tmp_path):
    folder = tiny_folders.make(tmp_path, tiny_folders.make_config(train_sizes=[5, 10]))
    with pytest.raises(ConfigError, match="must hold networks of one training size, not of 5, 10"):
        isda_bound.measure(str(folder), "db", 10, 2)


def test_the_images_are_those_that_the_network_is_trained_on():
    label = np.arange(40) % 4
    split = {"image": np.zeros((40, 8, 8, 1), np.uint8), "label": label}
    data = Dataset("random", split, split, 4)

    def of(size, **changes):
        config = entries.complete({"train_sizes": [size], **changes})
        return examples.trained_on(config, data)

    assert sorted(of(3)) == sorted(subsets.balanced_indices(label, 3, seed=0))
    held_out = {"selection": "validation", "validation_per_class": 2}
    assert np.bincount(label[of(0, **held_out)]).tolist() == [8] * 4
    assert len(of(3, **held_out, validation_included=True)) == 4
    assert len(of(0, selection="retrain", validation_per_class=2)) == 40
