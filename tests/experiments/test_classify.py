"""The experiment as its user sees it: from a config to a table, interrupted, repeated, refused."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits
from experiments import classify, commands
from experiments.comparison import ConfigError, Journal

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


def config():
    small = digits.get_config("smoke")
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
    names = {"config.json", "runs.jsonl", "results.json", "table.md"}
    plots = {"accuracy_by_size.png", "accuracy_by_strength.png"}
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


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match="one process only"):
        classify.compare(config(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_finished_comparison_trains_nothing_again(finished, monkeypatch):
    before = results(finished)
    monkeypatch.setattr(classify, "Comparison", None)
    classify.compare(config(), finished)
    assert results(finished) == before


def test_an_interrupted_comparison_goes_on_to_the_same_result(finished, tmp_path, monkeypatch):
    append, calls = Journal.append, []

    def interrupted(self, records):
        append(self, records)
        calls.append(len(records))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            classify.compare(config(), tmp_path)
    classify.compare(config(), tmp_path)
    assert calls == [2]
    assert results(tmp_path) == results(finished)


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
    ("change", "message"),
    [
        ({"model": "resnet"}, "Unknown model 'resnet'; known models: small_cnn"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'"),
        ({"strategy": "pmap"}, "unknown strategy 'pmap'"),
        ({"dataset": "mnits"}, "No data set 'mnits'"),
        ({"mean": (0.5, 0.5, 0.5)}, "mean has 3 numbers, but the image 1 channels"),
        ({"train_sizes": (120,)}, "but 130 of each class were asked for"),
        ({"losses": {"x": "cross_entropy | l1(weight=1, exclude=('b',))"}}, "exclude names"),
        ({"losses": {"x": "cross_entropy | frobenius(weight=1, probes=0)"}}, "probes must be"),
    ],
)
def test_mistakes_are_found_before_the_first_step(change, message, tmp_path, monkeypatch):
    monkeypatch.setattr(classify.Comparison, "train", None)
    wrong = config()
    if "losses" in change:
        wrong.strengths = ConfigDict()
    for name, value in change.items():
        setattr(wrong, name, ConfigDict(value) if isinstance(value, dict) else value)
    with pytest.raises((ValueError, OSError)) as caught:
        classify.compare(wrong, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_on_the_command_line_a_mistake_is_one_sentence_and_code_2(tmp_path):
    command = [sys.executable, "-m", "experiments.classify", f"--workdir={tmp_path}"]
    wrong = ["--config=configs/digits.py:smoke", "--config.selection=best"]
    done = subprocess.run([*command, *wrong], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("config.selection is 'best', but it can be validation or test.\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--config.epocs=3"],
            """no such entry, or not of that type: 'epocs' Did you mean "epochs\"""",
        ),
        (["--config.epochs=abc"], "invalid literal for int"),
        (["--confg=x"], "Unknown command line flag 'confg'. Did you mean: config"),
        (["more"], "unexpected arguments ['more']"),
    ],
)
def test_a_wrong_flag_is_one_sentence(flags, message, monkeypatch, capsys):
    argv = ["classify", "--config=configs/digits.py:smoke", *flags]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        commands._parse(argv)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
