"""The checks of configs: any values are right, or refused in one clear sentence."""

import pytest
from hammered import assert_one_sentence, names, numbers, values
from hypothesis import given
from hypothesis import strategies as st

from configs import common
from experiments import ConfigError
from experiments.evaluation import perturbation_entries
from experiments.evaluation.perturbations import KINDS
from experiments.runs.entries import ENTRIES, changed
from experiments.runs.plan import plan
from experiments.training import growth, optimizers

RIGHT = common.base().to_dict() | {
    "losses": {"x": "cross_entropy", "y": "cross_entropy | l2(weight={strength})"},
    "strengths": {"y": (0.1, 1.0)},
    "validation_per_class": 1,
}
TEXTS = (
    "cross_entropy",
    "",
    "{strength}",
    "stream",
    "vmap",
    "test",
    "cross_entropy | l2(weight=1)",
)
OPTIMIZERS = ("sgd", "adam", "add_decayed_weights", "by_part", "clip", "chain", "trace", "lars")
ARGUMENTS = ("momentum", "nesterov", "weight_decay", "parts", "b1", "mask", "epochs", "factor")


@st.composite
def configs(draw):
    config = {**RIGHT}
    for _ in range(draw(st.integers(1, 4))):
        entry = draw(st.sampled_from(ENTRIES))
        of_kind = {
            "text": st.one_of(st.sampled_from(TEXTS), names),
            "whole": st.integers(-2, 2**40),
            "number": numbers,
            "switch": st.booleans(),
            "tuple": st.lists(values, max_size=3).map(tuple),
            "section": st.dictionaries(st.sampled_from(["x", "y", "é", ""]), values, max_size=2),
        }
        kind = of_kind.get(entry.kind, values)
        config[entry.name] = draw(st.one_of(kind, kind, values))
    return config


@st.composite
def calls(draw, known):
    name = draw(st.one_of(st.sampled_from(known), st.sampled_from(known), names))
    some = st.lists(st.one_of(st.sampled_from(ARGUMENTS), names), max_size=3, unique=True)
    given = ", ".join(f"{argument}={draw(values)!r}" for argument in draw(some))
    return f"{name}({given})" if given else name


@given(configs())
def test_a_config_is_planned_or_refused_in_one_sentence(config):
    try:
        runs = plan(config)
    except ConfigError as error:
        assert_one_sentence(error)
    else:
        assert len({*runs}) == len(runs)
        assert changed(config, config) == []


@given(st.one_of(st.text(), calls(OPTIMIZERS), st.lists(calls(OPTIMIZERS)).map(" | ".join)))
def test_an_optimizer_is_made_or_refused_in_one_sentence(text):
    made = made_or_refused(optimizers.optimizer, text, 0.1)
    assert made is None or callable(made.update)


@given(st.one_of(st.text(), calls(tuple(optimizers.SCHEDULES))))
def test_a_schedule_is_made_or_refused_in_one_sentence(text):
    rate = made_or_refused(optimizers.schedule, text, 0.1, 10, 5)
    assert rate is None or 0 <= rate(0) <= 0.1 * (1 + 1e-6)


@given(st.one_of(values, calls(tuple(KINDS))))
def test_a_perturbation_is_read_or_refused_in_one_sentence(text):
    found = made_or_refused(perturbation_entries.read, text)
    assert found is None or (found.text == text and found.levels)


@given(st.dictionaries(names, st.one_of(values, calls(("linear", "sigmoid", "cosine")))))
def test_a_curve_is_read_or_refused_in_one_sentence(curves):
    found = made_or_refused(growth.read_curves, curves, 10)
    assert found is None or len(found) == len(curves)


def made_or_refused(read, *arguments):
    """What is read, or None where it is refused in one sentence."""
    try:
        return read(*arguments)
    except ValueError as error:
        assert_one_sentence(error)
        return None


def test_what_is_hammered_is_right_before():
    assert len(plan(RIGHT)) == 3
    with pytest.raises(ConfigError):
        plan(RIGHT | {"seeds": None})
