"""Two phases in one command, with runs that are recorded and not trained.

Real ones are in test_retrained.py.
"""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict
from tiny_folders import record

from configs import digits
from experiments import ConfigError, classify, comparison
from experiments.runs import folder, retraining
from experiments.training.interruption import StoppedError


def config(**changes):
    small = digits.get_config("smoke")
    small.train_sizes, small.seeds, small.validation_per_class = (5, 0), 2, 2
    small.selection = "retrain"
    names = ("db", "NI", "baseline")
    small.losses = ConfigDict({name: small.losses[name] for name in names}, sort_keys=False)
    small.strengths = ConfigDict({"db": (0.01, 0.1), "NI": (0.3,)})
    for name, value in changes.items():
        setattr(small, name, ConfigDict(value) if isinstance(value, dict) else value)
    return small


class Trained:
    """Stands for training: records each run, the better the nearer its strength is to `best`."""

    def __init__(self, best):
        self.best, self.weight, self.left, self.calls = best, 1, 1000, []

    def train(self, work, runs, pending, begun, profile):
        phase = work.problem.config["selection"]
        for run in pending:
            if not self.left:
                raise StoppedError(15, 0)
            self.left -= 1
            self.calls.append((phase, run))
            far = self.weight * abs((run.strength or 0) - self.best[run.train_size])
            held_out = None if phase == "retrain" else 0.9 - far
            work.journal.runs.append([record(run, 0.8, validation_accuracy=held_out)])
            yield


@pytest.fixture
def trained(monkeypatch):
    stub = Trained({5: 0.01, 0: 0.1})
    problem = lambda plain, *_: SimpleNamespace(config=plain, about="")  # noqa: E731
    monkeypatch.setattr(comparison, "Problem", problem)
    monkeypatch.setattr(comparison.Work, "train", lambda *given: stub.train(*given))
    monkeypatch.setattr(comparison.Work, "test", lambda *_: None)
    monkeypatch.setattr(comparison.Work, "describe", lambda _: None)
    for name in ("check", "check_evaluations"):
        monkeypatch.setattr(comparison.step_checks, name, lambda *_: None)
    monkeypatch.setattr(comparison.files, "write", lambda *_: {})
    monkeypatch.setattr(comparison.page, "write", lambda _, path: path)
    return stub


def lines(path):
    return [json.loads(line) for line in (path / "runs.jsonl").read_text().splitlines()]


def places(calls, phase):
    return [(r.method, r.train_size, r.strength, r.seed) for p, r in calls if p == phase]


def test_strengths_are_chosen_and_trained_again_in_one_command(trained, tmp_path, capsys):
    classify.compare(config(), tmp_path)
    first = [("db", size, s, seed) for size in (5, 0) for s in (0.01, 0.1) for seed in (0, 1)]
    assert places(trained.calls, "validation") == first
    chosen = [("db", size, s, seed) for size, s in ((5, 0.01), (0, 0.1)) for seed in (0, 1)]
    rest = [(m, size, s, n) for m, s in (("NI", 0.3), ("baseline", None)) for size in (5, 0)
            for n in (0, 1)]  # fmt: skip
    assert places(trained.calls, "retrain") == chosen + rest
    assert trained.calls[: len(first)] == [call for call in trained.calls if call[0] != "retrain"]
    said = capsys.readouterr().err
    assert "chosen first, by 8 runs (8 are left) without the held-out images, in " in said
    assert (
        "trained again on all training images: db 0.01 (5 per class), db 0.1 (all images)" in said
    )
    found = folder.read(tmp_path)
    assert (len(found.records), len(found.planned), len(found.first.records)) == (12, 12, 8)
    assert all(line["validation_accuracy"] is None for line in lines(tmp_path))


def test_a_finished_comparison_trains_nothing_again_and_says_nothing(trained, tmp_path, capsys):
    classify.compare(config(), tmp_path)
    trained.calls.clear()
    capsys.readouterr()
    classify.compare(config(), tmp_path)
    assert trained.calls == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stops", [0, 1, 7, 8, 9, 19])
def test_stopped_anywhere_it_goes_on_and_repeats_nothing(stops, trained, tmp_path):
    trained.left = stops
    with pytest.raises(StoppedError):
        classify.compare(config(), tmp_path)
    found = folder.read(tmp_path)  # a report can be made of it
    assert len(found.planned) == 12
    assert len(found.records) == max(0, stops - 8)
    assert len(found.first.records) == min(stops, 8)
    trained.left = 1000
    classify.compare(config(), tmp_path)
    assert len(set(trained.calls)) == len(trained.calls) == 20


def test_more_seeds_may_choose_another_strength_whose_runs_then_stand_alone(trained, tmp_path):
    classify.compare(config(), tmp_path)
    trained.calls.clear()
    trained.best, trained.weight = {5: 0.1, 0: 0.1}, 5  # by the third seed's held-out images
    classify.compare(config(seeds=3), tmp_path)
    db = [place for place in places(trained.calls, "retrain") if place[:2] == ("db", 5)]
    assert db == [("db", 5, 0.1, seed) for seed in range(3)]
    again = [place for place in places(trained.calls, "retrain") if place[:2] == ("db", 0)]
    assert again == [("db", 0, 0.1, 2)]
    chosen = {(row.method, row.train_size): row for row in folder.read(tmp_path).chosen}
    assert (chosen["db", 5].strength, chosen["db", 5].n) == (0.1, 3)


def test_the_last_phase_alone_shows_pictures_and_stopped_there_the_page_is_written(
    trained, tmp_path, monkeypatch
):
    asked, pages = [], []

    def draw(folder, config, experiment, interruption):
        asked.append((config["selection"], experiment.pictures))
        if experiment.pictures:
            raise StoppedError(15, 0)

    monkeypatch.setattr(comparison.pictures, "write", draw)
    monkeypatch.setattr(comparison.page, "write", lambda _, path: pages.append(path))
    experiment = dataclasses.replace(classify.CLASSIFICATION, pictures=print)
    with pytest.raises(StoppedError):
        comparison.compare(config(), tmp_path, experiment)
    assert asked == [("validation", None), ("retrain", print)]
    assert pages[-1] == tmp_path / "report.html"


def test_without_a_choice_there_is_one_phase(trained, tmp_path):
    classify.compare(config(strengths={"db": (0.1,), "NI": (0.3,)}), tmp_path)
    assert {phase for phase, _ in trained.calls} == {"retrain"}
    assert not (tmp_path / retraining.FOLDER).exists()


def test_what_is_wrong_with_the_second_phase_is_said_before_the_first(
    trained, tmp_path, monkeypatch
):
    def check(problem, runs):
        if "baseline" in {run.method for run in runs}:
            raise ConfigError("config.losses.baseline: no.")

    monkeypatch.setattr(comparison.step_checks, "check", check)
    with pytest.raises(ConfigError, match="baseline: no"):
        classify.compare(config(), tmp_path)
    assert trained.calls == []


def test_runs_on_all_images_are_those_of_a_comparison_that_held_out_none(trained, tmp_path):
    plain = config(selection="test", validation_per_class=0, strengths={"db": (0.1,), "NI": (0.3,)})
    classify.compare(plain, tmp_path)
    trained.calls.clear()
    classify.compare(config(), tmp_path)
    assert {run.method for phase, run in trained.calls if phase == "retrain"} == {"db"}
    with pytest.raises(ConfigError, match="validation_per_class: 0, now 2"):
        classify.compare(config(selection="validation"), tmp_path)
    with pytest.raises(ConfigError, match=r"selection holds runs of .*class: 2, now 3"):
        classify.compare(config(validation_per_class=3), tmp_path)
