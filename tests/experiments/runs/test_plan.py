"""The list of runs, and the checks of a config."""

import math

import pytest

from configs import digits
from experiments import ConfigError
from experiments.runs.plan import Run, plan


def config(**changes):
    return digits.get_config("smoke").to_dict() | changes


def db(*strengths):
    return {"strengths": config()["strengths"] | {"db": strengths}}


def test_a_plan_has_every_combination_once():
    runs = plan(config())
    assert len(runs) == len(set(runs)) == 2 * 2 * (7 * 2 + 1)
    assert {run.strength for run in runs if run.method == "baseline"} == {None}
    assert runs[0] == Run("db", "cross_entropy | double_backprop(weight=0.01)", 5, 0.01, 0)


def test_strengths_may_be_whole_numbers_and_are_floats():
    runs = [run for run in plan(config(**db(1, 10))) if run.method == "db"]
    assert runs[0] == Run("db", "cross_entropy | double_backprop(weight=1.0)", 5, 1.0, 0)
    assert all(isinstance(run.strength, float) for run in runs)


def test_a_method_without_a_placeholder_may_name_no_strengths():
    (run,) = plan(
        config(losses={"x": "cross_entropy"}, strengths={"x": ()}, train_sizes=(5,), seeds=1)
    )
    assert run.strength is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "config.seeds must be at least 1, but it is 0"),
        ({"epochs": -1}, "config.epochs must be at least 1, but it is -1"),
        ({"batch_size": 0}, "config.batch_size must be at least 1"),
        ({"losses": {}}, "must each name at least one"),
        ({"train_sizes": ()}, "must each name at least one"),
        ({"train_sizes": (-1,)}, "at least 1 image per class"),
        ({"selection": "best"}, "'best', but it can be 'validation' or 'test'"),
        ({"strengths": {"dbb": (1.0,)}}, "['dbb'], which config.losses has not"),
        ({"strengths": {}}, "config.losses.db has a {strength}, but config.strengths.db names"),
        ({"train_sizes": (5, 10, 5)}, "config.train_sizes names a number twice: (5, 10, 5)"),
        (db(1, 0.1, 1.0), "config.strengths.db names a number twice: (1.0, 0.1, 1.0)"),
        (db(0.0, 0.1), "must be positive, but config.strengths.db is (0.0, 0.1)"),
        (db(-1), "must be positive"),
        (db(math.nan), "a tuple of finite numbers"),
        (db(math.inf), "a tuple of finite numbers"),
        (
            {"losses": {"x": "cross_entropy"}, "strengths": {"x": (0.1,)}},
            "config.losses.x has no {strength}, but config.strengths.x names (0.1,)",
        ),
        ({"losses": {"x": "cross_entropi"}, "strengths": {}}, "unknown stage 'cross_entropi'"),
        ({"losses": {"x": "cross_entropy | l2"}, "strengths": {}}, "config.losses.x: l2 needs"),
        ({"losses": {"x": "cross_entropy |"}, "strengths": {}}, "no loss expression"),
    ],
)
def test_a_config_that_cannot_run_is_refused_in_one_sentence(changes, message):
    with pytest.raises(ConfigError) as caught:
        plan(config(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
