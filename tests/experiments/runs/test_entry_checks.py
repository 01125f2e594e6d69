"""The checks of a config's entries: what is wrong is one sentence.

Covers `entry_values.py` too.
"""

import copy
import math

import pytest

from configs import common
from experiments import ConfigError
from experiments.runs.entries import ENTRIES
from experiments.runs.entry_checks import check, check_value
from experiments.runs.entry_values import growing, joined, mixed, runs_at_once

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def config(**changes):
    """A config that can run."""
    right = {"losses": {"x": "cross_entropy"}, "validation_per_class": 1}
    return common.base().to_dict() | right | changes


def stream(**changes):
    right = {"data": "stream", "runs_at_once": 1, "validation_per_class": 0, "selection": "test"}
    return config(**right | changes)


def said(given):
    with pytest.raises(ConfigError) as caught:
        check(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@every_entry
def test_every_default_passes_its_own_check(entry):
    assert entry.fits(entry.default)
    check_value(entry, entry.default)


@pytest.mark.parametrize("right", [config(), stream(image_size=64)])
def test_a_right_config_passes_and_stays_as_it_is(right):
    before = copy.deepcopy(right)
    check(right)
    assert right == before


@every_entry
def test_an_entry_that_is_missing_is_named(entry):
    given = config()
    del given[entry.name]
    assert f"config.{entry.name} is missing: begin with base() of configs/common.py" in said(given)


@every_entry
def test_an_entry_of_another_type_is_named(entry):
    assert said(config(**{entry.name: None})).startswith(f"config.{entry.name} must be ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset": 3}, "config.dataset must be a text, but it is 3."),
        ({"seeds": True}, "config.seeds must be a whole number, but it is True."),
        ({"epochs": 1.0}, "config.epochs must be a whole number, but it is 1.0."),
        ({"clip_norm": "1"}, "config.clip_norm must be a number, but it is '1'."),
        (
            {"unlabeled_includes_labeled": 1},
            "config.unlabeled_includes_labeled must be True or False, but it is 1.",
        ),
        ({"mean": 0.5}, "config.mean must be a tuple, but it is 0.5."),
        ({"mixture": ("x",)}, "config.mixture must be a ConfigDict, but it is ('x',)."),
        ({"growing": "x"}, "config.growing must be a ConfigDict, but it is 'x'."),
    ],
)
def test_a_wrong_value_of_each_kind(changes, sentence):
    assert said(config(**changes)) == sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": 0}, "config.seeds must be at least 1, but it is 0."),
        ({"image_size": -1}, "config.image_size must be at least 0, but it is -1."),
        ({"epochs": 2**31}, "config.epochs must be at most 2,147,483,647, but it is 2147483648."),
        ({"clip_norm": math.inf}, "config.clip_norm must be finite, but it is inf."),
        ({"clip_norm": math.nan}, "config.clip_norm must be at least 0, but it is nan."),
        ({"dtype": "int8"}, "config.dtype is 'int8', but it can be 'float32' or 'bfloat16'."),
        ({"learning_rate": 0}, "config.learning_rate must be positive, but it is 0."),
        ({"resize": "x"}, "config.resize is 'x', but it can be 'centre' or 'whole'."),
        ({"broken": "x"}, "config.broken is 'x', but it can be 'refuse' or 'skip'."),
        ({"label_key": ""}, "config.label_key must name what a data set calls it, not ''."),
        (
            {"test_share": 1.0},
            "config.test_share must be a share between 0 and 1, such as 0.2, but it is 1.0.",
        ),
    ],
)
def test_a_value_out_of_range(changes, sentence):
    assert said(config(**changes)) == sentence


@pytest.mark.parametrize("name", ["metrics", "columns"])
@pytest.mark.parametrize("value", [(3,), ("nll", "nll")])
def test_metrics_are_names_and_each_stands_once(name, value):
    assert said(config(**{name: value})) == (
        f"config.{name} must be names of metrics, each of them once, such as ('accuracy', 'nll'), "
        f"but it is {value}."
    )
    check(config(**{name: ("nll", "accuracy")}))


@pytest.mark.parametrize(
    "mixture",
    [
        {"x": 0},
        {"x": -0.1},
        {"x": 1.0},
        {"x": 0.5, "y": 0.5},
        {"x": "0.5"},
        {"x": math.nan},
        {"x": True},
        {"x": {"y": 0.5}},
    ],
)
def test_a_mixture_has_shares_that_leave_room_for_the_data_set(mixture):
    assert said(config(mixture=mixture)) == (
        "config.mixture must name data sets with their shares of each batch, positive numbers "
        f"whose sum is below 1, such as {{'synthetic': 0.25}}, but it is {mixture}."
    )


def test_a_mixture_is_in_memory():
    check(config(mixture={"x": 0.5, "y": 0.25}))
    assert said(stream(mixture={"x": 0.5})) == (
        "config.mixture needs config.data='memory': a stream is of one data set."
    )


def test_both_batches_are_divided_into_equal_parts():
    check(config(accumulate=4, batch_size=8, unlabeled_batch_size=12))
    assert said(config(accumulate=4, batch_size=8, unlabeled_batch_size=6)) == (
        "config.accumulate=4 must divide config.unlabeled_batch_size=6: the batch is split into "
        "that many equal parts."
    )


@pytest.mark.parametrize("right", [("isda.strength",), {"isda": {"strength": "linear"}}])
def test_numbers_grow_by_curves(right):
    check(config(growing=right))
    assert growing(right) == {"isda.strength": "linear"}


@pytest.mark.parametrize("none", [{}, ()])
def test_no_number_needs_to_grow(none):
    check(config(growing=none))
    assert growing(none) == {}


def test_a_curve_is_a_text():
    assert said(config(growing={"isda": {"strength": 3}})) == (
        "config.growing must have a curve for each number, such as {'isda': {'strength': "
        "'linear'}}, but for 'isda.strength' it has 3."
    )


CHOICE = {"losses": {"x": "l2(weight={strength})"}, "strengths": {"x": (0.1, 0.2)}}
AGAIN = {"selection": "retrain", **CHOICE}


@pytest.mark.parametrize(
    "given", [{"validation_per_class": 0}, {"data": "stream", "validation_per_class": 0}]
)
def test_what_is_trained_again_holds_out_training_images_in_memory(given):
    words = "config.selection='retrain' holds out training images, of data in memory, and trains"
    assert said(config(**AGAIN | given)).startswith(words)
    check(config(selection="retrain", train_sizes=(0,), **given))  # where nothing is chosen


@pytest.mark.parametrize("given", [AGAIN, {"validation_included": True}])
def test_more_is_trained_on_than_is_held_out_of_it(given):
    assert said(config(**given, train_sizes=(0, 9, 4), validation_per_class=4)) == (
        "config.validation_per_class=4 of the images of config.train_sizes are held out, so that "
        "each must be 0, for all, or larger, but they are (0, 9, 4)."
    )
    check(config(**given, train_sizes=(0, 5), validation_per_class=4))
    check(config(**CHOICE, train_sizes=(4,), validation_per_class=4))


def test_no_more_epochs_are_averaged_than_there_are():
    assert said(config(epochs=9, score_epochs=10)) == (
        "config.score_epochs=10 last epochs are averaged, so that it must be at most "
        "config.epochs=9."
    )
    check(config(epochs=10, score_epochs=10))
    check(config(epochs=1, score_epochs=0))


def test_a_stream_is_trained_on_whole_and_all_that_hinders_it_is_said_at_once():
    given = {"train_sizes": (5,), "validation_per_class": 1, "runs_at_once": 2}
    given["positive_class"] = "cat"
    assert said(stream(unlabeled_batch_size=8, sampling="balanced", **given)) == (
        "config.data='stream' trains on all images with their labels, one run at a time: it needs "
        "config.train_sizes=(0,), not (5,); config.validation_per_class=0, not 1; "
        "config.sampling='', not 'balanced'; config.positive_class='', not 'cat'; "
        "config.runs_at_once=1, not 2; "
        "config.unlabeled_includes_labeled=True, not False."
    )


def test_a_stream_has_nothing_to_learn_a_whitening_from():
    assert said(stream(whiten="gcn | zca")).endswith("it needs config.whiten='', not 'gcn | zca'.")
    check(stream(whiten="gcn"))
    assert said(config(whiten="pca")) == (
        "config.whiten: unknown stage 'pca'; known are: gcn, standardise, zca."
    )


def test_a_stream_runs_with_all_else_as_it_is_by_default():
    given = common.base().to_dict() | {"losses": {"x": "cross_entropy"}, "data": "stream"}
    check(given)
    assert given["runs_at_once"] > 1
    assert runs_at_once(given) == 1


def test_class_weights_are_balanced_or_numbers():
    for right in ("", "balanced", (0.5, 2), [1.0, 0.0]):
        check(config(class_weights=right))
    for wrong in ("balance", (0.0, 0.0), (), (1.0, -1.0), (1.0, math.nan), ("a", "b")):
        assert "config.class_weights must be 'balanced'" in said(config(class_weights=wrong))
    assert "choose one" in said(config(class_weights="balanced", sampling="balanced"))
    check(stream(class_weights="balanced"))
    check(stream(class_weights=(0.5, 2.0)))


@pytest.mark.parametrize("of", [config, stream])
def test_nothing_of_a_prepared_data_set_is_left_out(of):
    words = "config.broken='skip' leaves out image files of your own"
    assert words in said(of(dataset="cifar10", broken="skip"))
    for kind in ("folder", "huggingface", "npz"):
        check(of(dataset=f"{kind}:pets", broken="skip"))
    check(config(dataset="cifar10", mixture={"folder:pets": 0.5}, broken="skip"))
    other = {"other": "dataset(name='folder:pets')"}
    check(config(dataset="cifar10", perturbations=other, broken="skip"))


def test_class_weights_are_set_as_text_or_tuple():
    base = common.base()
    base.class_weights = "balanced"
    base.class_weights = (0.5, 2.0)
    assert base.class_weights == (0.5, 2.0)


def test_a_streams_second_stream_holds_what_is_labelled():
    check(stream(unlabeled_batch_size=8, unlabeled_includes_labeled=True))
    assert "needs config.unlabeled_includes_labeled=True" in said(stream(unlabeled_batch_size=8))


def test_a_joined_data_set_may_be_one_for_each_seed():
    given = config(joined=("npz:a", "npz:b{seed}"), seeds=2)
    check(given)
    assert joined(given) == [("npz:a", None), ("npz:b0", 0), ("npz:b1", 1)]


def test_a_mixed_in_data_set_may_be_one_for_each_seed():
    given = config(mixture={"a": 0.5, "b{seed}": 0.25}, seeds=2)
    check(given)
    assert mixed(given) == [("a", None), ("b0", 0), ("b1", 1)]


@pytest.mark.parametrize("changes", [{"joined": ("",)}, {"joined": (3,)}, {"joined": ("x", "x")}])
def test_joined_data_sets_have_names(changes):
    assert said(config(**changes)).startswith("config.joined must name data sets, each of them")


def test_equal_updates_are_equal_to_something():
    assert "config.joined, which names none" in said(config(equal_updates=True))
