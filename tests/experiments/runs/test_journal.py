"""The work folder of a comparison that trains, with lines.py and runs/records.py."""

import dataclasses
import errno
import json
import math

import pytest

from configs import digits
from experiments import ConfigError
from experiments.runs.journal import Journal, alone
from experiments.runs.plan import plan


def config(**changes):
    return digits.get_config("smoke").to_dict() | changes


def record(run, accuracy=0.5):
    scores = {"test_nll": 0.3, "test_ece": 0.02, "train_loss": 0.1, "steps": 7}
    return vars(run) | {"test_accuracy": accuracy, "validation_accuracy": accuracy} | scores


def test_finished_runs_are_not_pending(tmp_path):
    runs = plan(config())
    Journal(tmp_path, config()).runs.append([record(run) for run in runs[:3]])
    journal = Journal(tmp_path, config())
    assert journal.pending(runs) == runs[3:]
    assert [r["seed"] for r in journal.of(runs)] == [run.seed for run in runs[:3]]


def test_a_half_written_line_is_dropped_and_its_run_repeated(tmp_path):
    runs = plan(config())
    Journal(tmp_path, config()).runs.append([record(run) for run in runs[:3]])
    path = tmp_path / "runs.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    journal = Journal(tmp_path, config())
    assert journal.pending(runs) == runs[2:]
    journal.runs.append([record(runs[2])])
    assert Journal(tmp_path, config()).pending(runs) == runs[3:]


@pytest.mark.parametrize("line", ["{]", "", "3", "{}", '{"method": "db", "seed": 0}'])
def test_a_damaged_line_is_named(tmp_path, line):
    Journal(tmp_path, config()).runs.append([record(run) for run in plan(config())[:2]])
    path = tmp_path / "runs.jsonl"
    path.write_text(f"{line}\n" + path.read_text())
    with pytest.raises(ConfigError, match=r"line 1 of .*runs\.jsonl is damaged: delete that line"):
        Journal(tmp_path, config())


def test_runs_of_another_config_are_refused_and_more_seeds_are_not(tmp_path):
    Journal(tmp_path, config()).runs.append([record(plan(config())[0])])
    with pytest.raises(ConfigError, match=r"epochs: 2, now 3\): choose another --workdir"):
        Journal(tmp_path, config(epochs=3))
    assert len(Journal(tmp_path, config(seeds=9)).runs.records) == 1
    assert json.loads((tmp_path / "config.json").read_text())["seeds"] == 9


def test_the_folder_of_an_older_version_goes_on(tmp_path):
    Journal(tmp_path, config()).runs.append([record(plan(config())[0])])
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text()) | {"image_size": 224, "growing": []}
    path.write_text(json.dumps({n: v for n, v in stored.items() if n != "mixture"}))
    with pytest.raises(ConfigError, match=r"\(mixture: {}, now {'x': 0.5}\): choose another"):
        Journal(tmp_path, config(mixture={"x": 0.5}))
    assert len(Journal(tmp_path, config()).runs.records) == 1


@pytest.mark.parametrize("damage", [None, "", "{", "[]"])
def test_runs_whose_config_is_lost_are_not_mixed_with_others(tmp_path, damage):
    Journal(tmp_path, config()).runs.append([record(plan(config())[0])])
    (tmp_path / "config.json").unlink()
    if damage is not None:
        (tmp_path / "config.json").write_text(damage)
    with pytest.raises(ConfigError, match=r"config\.json is missing or damaged.*: choose another"):
        Journal(tmp_path, config())
    assert (tmp_path / "config.json").exists() == (damage is not None)


def test_the_journal_is_strict_json(tmp_path):
    def refuse(constant):
        raise AssertionError(constant)

    bad = record(plan(config())[0], math.nan) | {"train_loss": math.inf}
    journal = Journal(tmp_path, config())
    journal.runs.append([bad])
    line = json.loads((tmp_path / "runs.jsonl").read_text(), parse_constant=refuse)
    assert journal.runs.records == [line]
    assert line["train_loss"] is line["test_accuracy"] is None
    assert line["test_nll"] == 0.3


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/runs cannot be used .*choose a folder"):
        Journal(tmp_path / "file" / "runs", config())


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path):
    with alone(tmp_path), pytest.raises(ConfigError, match=r"Another process is training in"):
        alone(tmp_path).__enter__()
    with alone(tmp_path):
        pass


def test_a_line_that_was_cut_off_goes_and_the_others_stay_untouched(tmp_path):
    journal = Journal(tmp_path, config())
    (first, *_) = plan(config())
    journal.runs.append([dataclasses.asdict(first) | {"train_loss": 0.5}])
    path = tmp_path / "runs.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"method": "x')
    assert len(Journal(tmp_path, config()).runs.records) == 1
    assert path.read_bytes() == whole


def test_a_full_disk_is_one_sentence_that_names_the_file(tmp_path, monkeypatch):
    journal = Journal(tmp_path, config())

    def full(lines):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal.runs, "_write", full)
    with pytest.raises(OSError, match=r"runs.jsonl cannot be written \(No space left on device\)"):
        journal.runs.append([])
