"""The experiment as its user sees it: from a config to a table, interrupted and repeated.

Covers `experiment.py` too.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest
import toys
from ml_collections import ConfigDict

from configs import digits
from experiments import ConfigError, classify, comparison, models
from experiments.data.spec import Spec
from experiments.runs.journal import Lines


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    """With a network that is soon compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "tiny", toys.Tiny)
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


def config():
    small = digits.get_config("smoke")
    small.model = "tiny"
    small.train_sizes = (2,)
    small.epochs = 2
    small.batch_size = 15
    small.runs_at_once = 2
    small.strategy = "map"
    names = ("db", "baseline")
    small.losses = ConfigDict({name: small.losses[name] for name in names}, sort_keys=False)
    small.strengths = ConfigDict({"db": (0.01, 0.1)})
    return small


def results(folder):
    lines = (folder / "runs.jsonl").read_text().splitlines()
    return sorted(lines), json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_folder):
    folder = tmp_path_factory.mktemp("finished")
    classify.compare(config(), folder)
    return folder


def test_every_run_is_recorded_and_every_file_written(finished):
    names = {"config.json", "runs.jsonl", "results.json", "table.md", "report.html", "training"}
    names |= {".lock", "about.json"}
    plots = {"accuracy_by_size.png", "accuracy_by_strength.png", "differences.png"}
    assert {path.name for path in finished.iterdir()} == names | plots
    lines = [json.loads(line) for line in (finished / "runs.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 2 + 2
    for line in lines:
        assert line["steps"] == 2 * 2  # 20 images in batches of 15, twice
        assert all(0 <= line[f"{part}_accuracy"] <= 1 for part in ("test", "validation"))
        assert np.isfinite([line["train_loss"], line["test_nll"], line["test_ece"]]).all()
        assert line["versions"].startswith(f"jax {jax.__version__}, flax ")
    assert "| baseline |" in (finished / "table.md").read_text()


def test_without_held_out_images_no_run_counts_as_diverged(tmp_path):
    bare = config()
    bare.selection, bare.validation_per_class = "test", 0
    bare.losses, bare.strengths = ConfigDict({"x": "cross_entropy"}), ConfigDict()
    classify.compare(bare, tmp_path)
    lines, report = results(tmp_path)
    assert [json.loads(line)["validation_accuracy"] for line in lines] == [None, None]
    assert [(row["n"], row["diverged"]) for row in report["rows"]] == [(2, 0)]


def test_a_finished_comparison_trains_nothing_again(finished, monkeypatch):
    before = results(finished)
    monkeypatch.setattr(comparison, "Problem", None)
    classify.compare(config(), finished)
    assert results(finished) == before


def test_an_interrupted_comparison_goes_on_to_the_same_result(finished, tmp_path, monkeypatch):
    append, calls = Lines.append, []

    def interrupted(self, records):
        append(self, records)
        calls.append(len(records))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            classify.compare(config(), tmp_path)
    classify.compare(config(), tmp_path)
    assert calls == [2]
    assert results(tmp_path) == results(finished)


@pytest.mark.slow
def test_the_strategies_agree(finished, tmp_path):
    other = config()
    other.strategy = "sharded"
    classify.compare(other, tmp_path)
    for mine, reference in zip(*(results(f)[0] for f in (tmp_path, finished)), strict=True):
        mine, reference = json.loads(mine), json.loads(reference)
        assert abs(mine["test_nll"] - reference["test_nll"]) < 1e-3
        assert abs(mine["test_accuracy"] - reference["test_accuracy"]) < 0.01


def test_every_test_image_is_scored_exactly_once(finished):
    for line in (finished / "runs.jsonl").read_text().splitlines():
        correct = json.loads(line)["test_accuracy"] * 510
        assert abs(correct - round(correct)) < 1e-3


@pytest.mark.parametrize(
    ("entry", "name", "says"),
    [
        ("metrics", "acuracy", r"config\.metrics names 'acuracy'; known are: accuracy, auc"),
        ("columns", "miou", r"config\.columns names 'miou'; known are:"),
        ("columns", "confusion", r"config\.columns names 'confusion', which is not one number"),
    ],
)
def test_a_wrong_metric_is_refused_of_a_finished_comparison_too(entry, name, says, finished):
    given = config()
    given[entry] = (name,)
    with pytest.raises(ConfigError, match=says):
        classify.compare(given, finished)


def test_a_folder_of_another_experiment_is_refused(finished):
    other = dataclasses.replace(classify.CLASSIFICATION, score="auc")
    with pytest.raises(ConfigError, match=r"runs of another experiment .*accuracy.*now .*auc"):
        comparison.compare(config(), finished, other)


def test_many_classes_stay_on_the_device_unless_they_are_asked_for():
    spec = Spec({"label": jax.ShapeDtypeStruct((), np.int32)}, 1000, ())
    config = {"metrics": (), "columns": (), "uncertainty": ""}
    named = classify.evaluation({**config, "columns": ("auc",)}, spec).metrics
    assert "auc" in named
    usual = classify.evaluation(config, spec)
    assert not {"auc", "confusion"} & set(usual.metrics)
    assert {"accuracy", "nll", "ece", "class_accuracy"} <= set(usual.metrics)
