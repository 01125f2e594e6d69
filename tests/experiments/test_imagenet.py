"""The way of ImageNet's config, with a small data set of JPEGs and a small network.

Covers `streaming.py` too.
"""

import json
import signal

import numpy as np
import pytest
import tiny_imagenet

from configs.isda import table1
from experiments import classify
from experiments.training import checkpoint_file, loop
from experiments.training.interruption import StoppedError


def config(folder, **changes):
    small = table1.get_config("smoke")
    small.dataset, small.data_dir, small.image_size = "tiny_imagenet", str(folder), 16
    small.model, small.batch_size, small.epochs, small.checkpoint_steps = "small_cnn", 8, 8, 3
    small.losses, small.learning_rate = {"ISDA": small.losses.ISDA}, 0.02
    small.update(changes)
    return small


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_imagenet.prepare(folder)
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    classify.compare(config(data), folder)
    return folder


def lines(folder):
    (file,) = folder.glob("training/*/metrics.jsonl")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in found]


def last(folder):
    (file,) = folder.glob("training/*/checkpoints/20/*/leaves_0.safetensors")
    return {piece.name: piece.value for piece in checkpoint_file.read(file)}


def test_steps_run_on_across_epochs_and_the_strength_and_rate_follow(finished):
    (record,) = map(json.loads, (finished / "runs.jsonl").read_text().splitlines())
    assert record["steps"] == 20  # eight epochs of 20 images in batches of 8
    assert record["strength"] == 7.5
    assert record["validation_accuracy"] is None
    assert len(record["test_class_accuracy"]) == 4
    rates = {line["step"]: line["learning_rate"] for line in lines(finished) if "total" in line}
    for step, rate in rates.items():
        np.testing.assert_allclose(rate, 0.01 * (1 + np.cos(np.pi * (step - 1) / 20)), rtol=1e-4)
    evaluated = [line["step"] for line in lines(finished) if line["kind"] == "evaluation"]
    assert evaluated == [round(epoch * 2.5) for epoch in range(1, 9)]
    assert "| ISDA |" in (finished / "table.md").read_text()


@pytest.mark.slow
def test_interrupted_it_goes_on_with_the_same_batches(finished, data, tmp_path, monkeypatch):
    save, seen = loop.Checkpoints.save, []

    def interrupting(self, step, *rest, **scores):
        save(self, step, *rest, **scores)
        seen.append(step)
        if len(seen) in (2, 4):
            raise StoppedError(signal.SIGTERM, step)

    monkeypatch.setattr(loop.Checkpoints, "save", interrupting)
    for _ in range(2):
        with pytest.raises(StoppedError):
            classify.compare(config(data), tmp_path)
    classify.compare(config(data), tmp_path)
    assert seen == [2, 3, 5, 6, 8, 9, 10, 12, 15, 18, 20]  # scored, or every third
    assert lines(tmp_path) == lines(finished)
    expected, found = last(finished), last(tmp_path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.tobytes() == found[name].tobytes(), name


def test_parameters_stay_float32_where_the_network_computes_in_bfloat16(finished):
    kinds = {value.dtype.name for value in last(finished).values()}
    assert kinds == {"float32", "int32"}
    assert config("").dtype == "bfloat16"
