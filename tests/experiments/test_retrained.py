"""Strengths that are chosen and trained again, with real trainings on digits.

With runs that are made up, see test_comparison.py.
"""

import json
import os
import signal

import numpy as np
import pytest
import toys
from ml_collections import ConfigDict

from configs import digits
from experiments import classify, models
from experiments.report import page
from experiments.runs import folder
from experiments.runs.load import load, load_predictor
from experiments.training.interruption import StoppedError
from experiments.training.record import Record

pytestmark = pytest.mark.slow
EPOCHS, HELD_OUT = 4, 2


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "tiny", toys.Tiny)
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


def config(**changes):
    small = digits.get_config("smoke")
    small.model, small.train_sizes, small.batch_size, small.epochs = "tiny", (6, 10), 10, EPOCHS
    small.runs_at_once, small.strategy, small.learning_rate = 3, "map", 0.02
    small.selection, small.validation_per_class, small.score_epochs = "retrain", HELD_OUT, 3
    small.checkpoint_steps = 7
    losses = {"l2": "cross_entropy | l2(weight={strength})", "baseline": "cross_entropy"}
    small.losses = ConfigDict(losses, sort_keys=False)
    small.strengths = ConfigDict({"l2": (0.001, 0.1)})
    small.growing = ConfigDict({"l2": {"weight": "linear"}})
    for name, value in changes.items():
        setattr(small, name, value)
    return small


def records(path):
    """The records by what they are of, without what a comparison decides of their groups."""
    lines = [json.loads(line) for line in (path / "runs.jsonl").read_text().splitlines()]
    names = ("method", "train_size", "strength", "seed")
    rest = [{n: v for n, v in line.items() if n not in ("group", "place", "together")}
            for line in lines]  # fmt: skip
    return {tuple(line[name] for name in names): line for line in rest}


@pytest.fixture(scope="module")
def finished(data_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    classify.compare(config(), path)
    return path


def test_the_strength_of_the_best_held_out_score_is_trained_again(finished):
    first, second = records(finished / "selection"), records(finished)
    assert len(first) == 2 * 2 * 2
    for size in (6, 10):
        scored = {
            s: np.mean([first["l2", size, s, n]["validation_accuracy"] for n in (0, 1)])
            for s in (0.1, 0.001)
        }
        best = min(scored, key=lambda s: (-scored[s], s))
        assert ("l2", size, best, 1) in second
        assert first["l2", size, best, 0]["steps"] == EPOCHS * (size - HELD_OUT)
        assert second["l2", size, best, 0]["steps"] == EPOCHS * size
    assert len(second) == 2 * 2 * 2


def test_what_is_trained_again_is_trained_as_if_nothing_had_been_held_out(finished, tmp_path):
    (at,) = {key[2] for key in records(finished) if key[:2] == ("l2", 10)}
    plain = config(selection="test", validation_per_class=0, train_sizes=(10,))
    plain.strengths = ConfigDict({"l2": (at,)})
    classify.compare(plain, tmp_path)
    theirs = records(tmp_path)
    assert theirs == {key: line for key, line in records(finished).items() if key in theirs}


def test_a_score_is_the_mean_of_its_last_epochs_in_the_record(finished):
    found = folder.read(finished)
    for key, line in records(finished).items():
        evaluated = [
            each["test_nll"]
            for each in found.metrics()
            if each["kind"] == "evaluation"
            and (each["method"], each["train_size"], each["strength"], each["seed"]) == key
        ]
        assert len(evaluated) == 3
        assert line["test_nll"] == pytest.approx(np.mean(evaluated), rel=1e-9)


def test_networks_and_pages_of_both_phases(finished, tmp_path):
    again, first = load(finished, "l2", train_size=10), finished / "selection"
    assert again.head.kernel.shape[-1] == 10
    load(first, "l2", train_size=10, strength=0.1, seed=1)
    image = np.zeros((1, 8, 8, 1), np.uint8)
    assert load_predictor(finished, "baseline", train_size=6)(image).shape == (1, 10)
    text = page.write([finished, first], tmp_path / "page.html").read_text()
    assert "8 of 8 runs finished" in text
    assert "Unfinished" not in text


def disturb(patch, phase, step, act):
    """Does something when that step of that phase is recorded."""
    record = Record.record

    def recorded(self, kind, at, *rest):
        record(self, kind, at, *rest)
        if ("selection" in self.path.parts) == (phase == "selection") and at == step:
            act()

    patch.setattr(Record, "record", recorded)


def test_stopped_in_one_phase_and_killed_in_the_other_it_ends_the_same(finished, tmp_path):
    def kill():
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, "selection", 14, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(StoppedError):
            classify.compare(config(), tmp_path)
    assert not (tmp_path / "selection" / "runs.jsonl").exists()
    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, "retrain", 30, kill)  # one of the epochs that are averaged has been scored
        with pytest.raises(MemoryError):
            classify.compare(config(), tmp_path)
    classify.compare(config(), tmp_path)
    for part in ("selection", "."):
        assert records(tmp_path / part) == records(finished / part)
