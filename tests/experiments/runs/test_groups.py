"""Which runs are trained together, and in which folder.

Covers `problem.py` too.
"""

import pytest
from ml_collections import ConfigDict

from configs import digits
from configs.isda import imagenet
from experiments import ConfigError
from experiments.classify import CLASSIFICATION
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


def groups(config, pending=None):
    runs = plan(config.to_dict())
    some = runs if pending is None else [runs[i] for i in pending]
    found = groups_of(Problem(config.to_dict(), CLASSIFICATION), runs, some)
    return {name: [(run["strength"], run["seed"]) for run in group.labels] for name, group in found}


def test_what_has_finished_does_not_divide_the_others_anew(data):
    seven = config(data, seeds=7, runs_at_once=3, strengths=ConfigDict({"x": (0.1,)}))
    whole = groups(seven)
    assert [len(part) for part in whole.values()] == [2, 3, 2]
    assert groups(seven, range(2, 7)) == dict(list(whole.items())[1:])
    (rest,) = groups(seven, [3]).items()  # of a group that a larger config completes
    assert rest[1] == [(0.1, 3)]
    assert rest[0] not in whole


def test_another_loss_of_the_same_name_has_another_folder(data):
    other = config(data, losses={"x": "cross_entropy | l1(weight={strength})"})
    assert groups(config(data)).keys().isdisjoint(groups(other))
    named = config(data, losses={"x!": "cross_entropy", "x?": "cross_entropy"})
    named.strengths = ConfigDict()
    assert len(groups(named)) == 2


def test_a_stream_needs_batches_that_the_devices_divide(data):
    streamed = imagenet.get_config("smoke")
    streamed.data_dir, streamed.batch_size = data, 60
    with pytest.raises(ConfigError, match=r"batch_size=60 must be a multiple of 8, the devices"):
        check(Problem(streamed.to_dict(), CLASSIFICATION), plan(streamed.to_dict()))
