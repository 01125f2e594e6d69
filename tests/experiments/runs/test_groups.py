"""Which runs are trained together, and in which folder.

Covers `problem.py` too.
"""

import json

import pytest
from ml_collections import ConfigDict

from configs import digits
from configs.isda import table1
from experiments import ConfigError
from experiments.classify import CLASSIFICATION
from experiments.runs.groups import begun, with_checkpoints
from experiments.runs.groups import groups as groups_of
from experiments.runs.plan import plan
from experiments.runs.problem import Problem
from experiments.runs.step_checks import check


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


def config(data, **changes):
    small = digits.get_config("smoke")
    small.data_dir, small.train_sizes, small.strategy = data, (2,), "map"
    small.losses = {"x": "cross_entropy | l2(weight={strength})"}
    small.strengths = ConfigDict({"x": (0.1, 0.2)})
    for name, value in changes.items():  # (update would merge the losses)
        setattr(small, name, ConfigDict(value) if isinstance(value, dict) else value)
    return small


def groups(config, pending=None, folder=None):
    runs = plan(config.to_dict())
    some = runs if pending is None else [runs[i] for i in pending]
    started = begun(folder, some, config.runs_at_once) if folder else {}
    found = groups_of(Problem(config.to_dict(), CLASSIFICATION), runs, some, started)
    return {name: [(run["strength"], run["seed"]) for run in group.labels] for name, group in found}


def test_what_has_finished_does_not_divide_the_others_anew(data):
    seven = config(data, seeds=7, runs_at_once=3, strengths=ConfigDict({"x": (0.1,)}))
    whole = groups(seven)
    assert [len(part) for part in whole.values()] == [2, 3, 2]
    assert groups(seven, range(2, 7)) == dict(list(whole.items())[1:])
    (rest,) = groups(seven, [3]).items()  # of a group that a larger config completes
    assert rest[1] == [(0.1, 3)]
    assert rest[0] not in whole


def begin(folder, name, runs, step):
    """What the training of a group leaves that was stopped at that step."""
    (folder / name / "checkpoints" / f"{step}").mkdir(parents=True)
    labels = [{"method": "x", "train_size": 2, "strength": s, "seed": n} for s, n in runs]
    lines = [
        {"kind": "train", "step": at, "epoch": 1.0, **each} for at in (1, step) for each in labels
    ]
    (folder / name / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


def test_what_was_begun_goes_on_as_it_was_when_seeds_are_added(data, tmp_path):
    (name, few) = next(iter(groups(config(data, seeds=2)).items()))
    begin(tmp_path, name, few, 20)
    grown = config(data, seeds=3)
    first, rest = groups(grown, folder=tmp_path).items()
    assert first == (name, few)
    assert sorted(few + rest[1]) == [(s, seed) for s in (0.1, 0.2) for seed in range(3)]
    # Nor is the rest divided in another way once that has finished, or been begun.
    numbers = [i for i, run in enumerate(plan(grown.to_dict())) if run.seed == 2]
    assert groups(grown, numbers, tmp_path) == dict([rest])
    begin(tmp_path, *rest, 40)
    assert groups(grown, folder=tmp_path) == dict([rest, first])


def test_what_cannot_go_on_begins_anew(data, tmp_path):
    ((name, runs),) = groups(config(data, seeds=2)).items()
    begin(tmp_path, name, runs, 20)
    assert name in groups(config(data, seeds=3), folder=tmp_path)
    other_loss = {"x": "cross_entropy | l1(weight={strength})"}
    for changes in ({"seeds": 2, "runs_at_once": 3}, {"seeds": 1}, {"losses": other_loss}):
        other = config(data, **changes)
        assert groups(other, folder=tmp_path) == groups(other)
    (tmp_path / name / "metrics.jsonl").write_text("[]\n")
    assert name not in groups(config(data, seeds=3), folder=tmp_path)
    assert with_checkpoints(tmp_path) == [name]
    assert with_checkpoints(tmp_path / "none") == []


def test_another_loss_of_the_same_name_has_another_folder(data):
    other = config(data, losses={"x": "cross_entropy | l1(weight={strength})"})
    assert groups(config(data)).keys().isdisjoint(groups(other))
    named = config(data, losses={"x!": "cross_entropy", "x?": "cross_entropy"})
    named.strengths = ConfigDict()
    assert len(groups(named)) == 2


def test_a_stream_needs_batches_that_the_devices_divide(data):
    streamed = table1.get_config("smoke")
    streamed.data_dir, streamed.batch_size = data, 60
    with pytest.raises(ConfigError, match=r"batch_size=60 must be a multiple of 8, the devices"):
        check(Problem(streamed.to_dict(), CLASSIFICATION), plan(streamed.to_dict()))
