"""A whole search on digits: killed, resumed, and what it writes; and what it refuses.

Covers `search/training.py` and `found.py` too.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import regjax as rj
from configs.sign import search as example
from experiments import ConfigError
from experiments.runs.entries import ENTRIES
from experiments.runs.plan import plan

pytest.importorskip("optuna")

from experiments.search import found, searching, training
from experiments.search.study import Trial

ROOT = Path(__file__).parents[3]


def config(**changes):
    made = example.get_config("smoke")
    made.update(changes)
    return made


def history(folder):
    return json.loads((folder / "history.json").read_bytes())


class Killed(BaseException):
    """Stands for a signal that nothing can catch."""


def kill_in_training(folder):
    """Starts the command and kills it as soon as its first trials have taken steps."""
    command = [sys.executable, "-m", "experiments.search", f"--workdir={folder}"]
    command += [f"--config={ROOT}/configs/sign/search.py:smoke"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not list(folder.glob("training/*/metrics.jsonl")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.kill()


def test_what_whitening_learnt_is_looked_for_in_the_work_folder(tmp_path, monkeypatch):
    def opened(config, experiment, folder=None):
        raise Killed(folder)

    monkeypatch.setattr(training, "Problem", opened)
    with pytest.raises(Killed) as found:
        searching.search(config(), tmp_path)
    assert found.value.args == (tmp_path,)


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_killed_and_writes_what_any_config_takes(
    tmp_path, monkeypatch
):
    """Killed in training, and where trials are trained but not told: none is lost or repeated."""
    kill_in_training(tmp_path)
    trained = []
    train, values = training.Work.train_group, training.Trainer.values

    def counted(work, name, group, bar, profile=False):
        trained.extend(label["strength"] for label in group.labels)
        return train(work, name, group, bar, profile)

    def dies(trainer, trials, bar):
        scores = values(trainer, trials, bar)
        if trials[0].number == 2:
            raise Killed
        return scores

    monkeypatch.setattr(training.Work, "train_group", counted)
    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "values", dies)
        with pytest.raises(Killed):
            searching.search(config(), tmp_path)
    assert [row["trial"] for row in history(tmp_path)] == [0, 1]
    paths = searching.search(config(), tmp_path)
    assert trained in ([0, 1, 2, 3], [2, 3])  # the kill may have come late
    rows = history(tmp_path)
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    top = max(rows, key=lambda row: row["validation_accuracy"])
    expression = paths["expression"].read_text().strip()
    assert expression == top["expression"]
    assert expression in found.summary(rows, expression)
    assert "'rotate', 0.0, 'rotate', 0.0" in rows[0]["expression"]
    assert paths["plot"].read_bytes().startswith(b"\x89PNG")
    # The scores are the journal's, of validation images.
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    by_trial = {line["strength"]: line for line in lines}
    for row in rows:
        assert row["validation_accuracy"] == by_trial[row["trial"]]["validation_accuracy"]
        assert row["test_accuracy"] == by_trial[row["trial"]]["test_accuracy"]
    other = example.get_config("found").to_dict()
    other["losses"] = {"found": expression}
    assert plan(other)[0].loss == repr(rj.parse(expression))
    check_broken(tmp_path, monkeypatch)


def check_broken(folder, monkeypatch):
    """A full disk and a journal that was deleted are one sentence each; then the search is done."""

    def full(path, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(found.files, "replace", full)
        with pytest.raises(
            OSError, match=r"found.txt cannot be written \(No space left on device\)"
        ):
            searching.search(config(), folder)
    journal = folder / "runs.jsonl"
    text = journal.read_text()
    for left in (None, text.splitlines(keepends=True)[0]):
        journal.unlink() if left is None else journal.write_text(left)
        with pytest.raises(ConfigError, match=r"whose runs are not in runs.jsonl beside it: put"):
            searching.search(config(), folder)
    journal.write_text(text)
    searching.search(config(), folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"validation_per_class": 0}, "needs images to choose by, .*validation_per_class"),
        ({"train_sizes": (5, 10)}, r"config.train_sizes is \(5, 10\)"),
        ({"selection": "test"}, "config.selection 'test'"),
        ({"model": "no_such"}, "Unknown model 'no_such'"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_work(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        searching.search(config(**changes), tmp_path)
    assert not (tmp_path / "search.db").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trial": 3}, "config.search has no 'trial'; the nearest are: trials"),
        ({"trials": 0}, "config.search.trials must be a whole number, 1 or more, but it is 0"),
        ({"seed": -1}, "config.search.seed must be a whole number, 0 or more, but it is -1"),
        ({"sampler": "grid"}, "must be one of 'tpe', 'random', but it is 'grid'"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(change, said, tmp_path):
    made = config()
    with made.search.unlocked():
        made.search.update(change)
    with pytest.raises(ConfigError, match=said):
        searching.search(made, tmp_path)


def test_a_config_without_a_search_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.search is missing"):
        searching.search(example.get_config("found"), tmp_path)


@pytest.mark.parametrize("arg", ["", "smoke", "cifar10", "found"])
def test_the_example_has_the_entries_of_all_configs(arg):
    made = example.get_config(arg)
    assert set(made) - {"search"} == {entry.name for entry in ENTRIES}
    assert made.runs_at_once % made.seeds == 0
    with pytest.raises(ValueError, match=r"'smok'.*'cifar10', 'found', 'smoke'"):
        example.get_config("smok")


def test_of_trials_of_one_expression_the_best_is_told():
    rows = [
        {"trial": i, "expression": "a", "validation_accuracy": v, "test_accuracy": 0.25}
        for i, v in enumerate((0.5, 0.75))
    ]
    assert "trial 1 of 2: validation accuracy 75.00 %" in found.summary(rows, "a")


def test_the_plot_has_every_trial_and_the_best_so_far():
    done = [Trial(i, "a", value) for i, value in enumerate((0.5, 0.25, 0.75, 0.5))]
    (axes,) = found.figure(done, done[0]).axes
    points, best, first = axes.lines
    np.testing.assert_allclose(points.get_ydata(), [50, 25, 75, 50])
    np.testing.assert_allclose(best.get_ydata(), [50, 50, 75, 75])
    np.testing.assert_allclose(first.get_ydata(), 50)
    assert len(found.figure(done, None).axes[0].lines) == 2
