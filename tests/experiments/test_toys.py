"""A new one of every kind, from outside the packages, is trained by the comparison (comparison.py).

`experiments/README.md` says which files each of them needs; `tests/toys.py` has them.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from ml_collections import ConfigDict
from support import assert_same

from configs import common
from experiments import ConfigError, classify, models
from experiments.comparison import compare
from experiments.data import sources
from experiments.evaluation import metrics
from experiments.runs import load
from experiments.training import checkpoint_reading
from experiments.training.interruption import StoppedError
from experiments.training.record import Record


@pytest.fixture(autouse=True)
def brought(monkeypatch):
    """The networks and data sets of `toys`, and any metric, for the time of a test."""
    monkeypatch.setitem(models.MODELS, "tiny", toys.Tiny)
    monkeypatch.setitem(models.MODELS, "pixelwise", toys.Pixelwise)
    monkeypatch.setitem(sources.DATASETS, "toys", lambda *_: toys.dataset())
    before = dict(metrics.METRICS)
    yield
    metrics.METRICS.clear()
    metrics.METRICS.update(before)


def config(loss: str = "cross_entropy", **changes: Any) -> ConfigDict:
    """Two steps."""
    small = common.base()
    small.dataset, small.model, small.selection = "toys", "tiny", "test"
    small.batch_size, small.epochs, small.runs_at_once = 18, 1, 1
    small.losses = ConfigDict({"toy": loss})
    for name, value in changes.items():
        setattr(small, name, value)
    return small


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


def trained(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the last checkpoint."""
    (found,) = folder.glob("training/*/checkpoints")
    return checkpoint_reading.read_arrays(found, max(int(path.name) for path in found.iterdir()))


def test_a_penalty_a_network_and_a_data_set(tmp_path):
    paths = classify.compare(config("cross_entropy | small_logits(weight=0.1)"), tmp_path)
    (record,) = records(tmp_path)
    assert record["steps"] == 2
    assert 0 <= record["test_accuracy"] <= 1
    assert "toy" in paths["table"].read_text()
    network = load.load(tmp_path, "toy")
    assert network(jnp.zeros((1, toys.SIDE, toys.SIDE, 1))).logits.shape == (1, toys.CLASSES)


def test_a_metric(tmp_path):
    @metrics.metric(needs=("label", "prediction"), words="off by one (%)", percent=True)
    def off_by_one(rows):
        return float(np.mean(np.abs(rows["label"] - rows["prediction"]) == 1))

    paths = classify.compare(config(columns=("accuracy", "off_by_one")), tmp_path)
    (record,) = records(tmp_path)
    assert 0 <= record["test_off_by_one"] <= 1
    assert "off by one (%)" in paths["table"].read_text()


@pytest.mark.slow
def test_a_semi_supervised_method(tmp_path):
    changes: dict[str, Any] = {
        "train_sizes": (2,),
        "unlabeled_batch_size": 8,
        "batch_size": 4,
        "runs_at_once": 2,
    }
    loss = "cross_entropy | noise_injection(sigma=0.1) | agreeing_views(weight=1.0)"
    classify.compare(config(loss, **changes), tmp_path)
    (file,) = tmp_path.glob("training/*/metrics.jsonl")
    line = json.loads(file.read_text().splitlines()[0])
    assert line["agreeing_views"] > 0


def stopped_and_started_again(folder, experiment, given, monkeypatch):
    """The arrays at the end of a training that was stopped after its third step."""
    write = Record.record

    def stop(self: Record, kind: str, step: int, *rest: Any) -> None:
        write(self, kind, step, *rest)
        if kind == "train" and step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Record, "record", stop)
    with pytest.raises(StoppedError):
        compare(given, folder, experiment)
    monkeypatch.undo()
    monkeypatch.setitem(models.MODELS, "pixelwise", toys.Pixelwise)
    compare(given, folder, experiment)
    return trained(folder)


@pytest.mark.parametrize(
    ("experiment", "loss", "score"),
    [
        pytest.param(
            *(toys.PIXELS, "cross_entropy | double_backprop(weight=0.1)", "miou"),
            marks=pytest.mark.slow,
        ),
        (toys.GENERATOR, "wasserstein(clip=0.1)", "nearness"),
    ],
    ids=["per-pixel", "generator"],
)
@pytest.mark.parametrize("together", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_task_is_killed_and_resumed(experiment, loss, score, together, tmp_path, monkeypatch):
    given = config(
        loss, model="pixelwise", runs_at_once=together, seeds=together, epochs=3, checkpoint_steps=3
    )
    paths = compare(given, tmp_path / "undisturbed", experiment)
    for record in records(tmp_path / "undisturbed"):
        assert np.isfinite(record[f"test_{score}"])
        assert record["steps"] == 6
    assert "toy" in paths["table"].read_text()
    expected = trained(tmp_path / "undisturbed")
    found = stopped_and_started_again(tmp_path / "stopped", experiment, given, monkeypatch)
    assert_same(found, expected)
    # Six steps from another start, so that this is not true of any two trainings.
    first = next(name for name in expected if name.startswith(".params"))
    assert not np.array_equal(expected[first], 0 * expected[first])


def test_the_parts_of_a_task_are_loaded(tmp_path):
    compare(config("wasserstein(clip=0.1)"), tmp_path, toys.GENERATOR)
    generator, critic = (load.load(tmp_path, "toy", part=p) for p in ("generator", "critic"))
    image = generator(jax.random.normal(jax.random.key(0), (5, 2))).logits
    assert image.shape == (5, toys.SIDE**2)
    assert np.abs(critic.params).max() <= 0.1
    assert critic(image).logits.shape == (5, 1)


@pytest.mark.slow
def test_isda_takes_unlabelled_images_by_config(tmp_path):
    changes: dict[str, Any] = {"train_sizes": (2,), "batch_size": 6, "unlabeled_batch_size": 8}
    text = "isda(strength=0.5) | semantic_consistency(weight="
    classify.compare(config(f"{text}1.0)", **changes), tmp_path / "a")
    classify.compare(config(f"{text}0.0)", **changes), tmp_path / "b")
    with_stream, without = (records(tmp_path / name)[0]["train_loss"] for name in "ab")
    assert with_stream != without


def bright(_: Path, size: int) -> sources.Dataset:
    """Images that another program made: floats, of the classes in another order."""
    del size
    split = toys.images(24, seed=5)
    split = {
        "image": split["image"].astype(np.float32) / 255,
        "label": ((split["label"] + 1) % 3).astype(np.int32),
    }
    return sources.Dataset("bright", split, split, toys.CLASSES, ("c", "a", "b"))


def test_a_mixture_of_data_sets_in_stated_shares(tmp_path, monkeypatch):
    monkeypatch.setitem(sources.DATASETS, "bright", bright)
    given = config("cross_entropy | noise_injection(sigma=0.1)", epochs=4)
    given.mixture = ConfigDict({"bright": 1 / 3})
    classify.compare(given, tmp_path)
    (record,) = records(tmp_path)
    assert record["steps"] == 4 * 3  # epochs of 36 images, 12 of them in each batch of 18
    given.mixture = ConfigDict({"bright": 0.001})
    with pytest.raises(ValueError, match="no place for one of the shares"):
        classify.compare(given, tmp_path / "other")


@pytest.mark.slow
def test_another_data_set_is_a_perturbation(tmp_path, monkeypatch):
    """Whose classes are named otherwise; all of its images are of known classes but those of b."""
    monkeypatch.setitem(sources.DATASETS, "bright", bright)
    given = config(epochs=30, learning_rate=0.05)
    given.perturbations = ConfigDict(
        {
            "own names": "dataset(name='bright')",
            "mapped": "dataset(name='bright', map={'a': ('c',)})",
        }
    )
    classify.compare(given, tmp_path)
    lines = (tmp_path / "robustness.jsonl").read_text().splitlines()
    found = {record["text"]: record["accuracy"] for record in map(json.loads, lines)}
    own, mapped = (
        found["dataset(name='bright')"],
        found["dataset(name='bright', map={'a': ('c',)})"],
    )
    network = load.load(tmp_path, "toy")
    split = bright(tmp_path, 0).train
    found = np.argmax(network(jnp.asarray(split["image"])).logits, -1)
    true = np.array([2, 0, 1])[split["label"]]
    np.testing.assert_allclose(own, [np.mean(found == true)], atol=1e-6)
    chosen = split["label"] == 0  # their c, which is our a
    np.testing.assert_allclose(mapped, [np.mean(found[chosen] == 0)], atol=1e-6)
    assert 0.6 < own[0] <= 1


def test_a_perturbation_of_a_task_without_pixels_is_refused(tmp_path):
    given = config("wasserstein(clip=0.1)")
    given.perturbations = ConfigDict({"noise": "white_noise(sigma=0.1)"})
    with pytest.raises(ConfigError, match=r"^config\.perturbations\['noise'\]: 'Players'"):
        compare(given, tmp_path, toys.GENERATOR)
