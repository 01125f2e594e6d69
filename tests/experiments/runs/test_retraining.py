"""Which runs the two phases have, by hand."""

import dataclasses

import pytest
from tiny_folders import accuracy, make_config, record

from experiments.runs import retraining
from experiments.runs.plan import Run

LOSSES = {"db": "x | l2(weight={strength})", "one": "x | l2(weight={strength})", "baseline": "x"}
CONFIG = make_config(
    selection="retrain",
    losses=LOSSES,
    strengths={"db": [0.1, 1.0], "one": [0.5]},
    train_sizes=[5, 0],
    validation_per_class=2,
    perturbations={"noise": "white_noise(sigma=(0.1,))"},
)


def runs():
    return [
        Run(method, LOSSES[method], size, strength, seed)
        for method, strengths in (("db", (0.1, 1.0)), ("one", (0.5,)), ("baseline", (None,)))
        for size in (5, 0)
        for strength in strengths
        for seed in (0, 1)
    ]


def of_first():
    return [run for run in runs() if run.method == "db"]


def test_the_first_phase_is_of_methods_with_a_choice_and_is_a_comparison_of_its_own():
    first = retraining.first(CONFIG)
    assert (first["selection"], first["validation_included"]) == ("validation", True)
    assert list(first["losses"]) == ["db"]
    assert first["strengths"] == {"db": [0.1, 1.0]}
    assert first["perturbations"] == first["published"] == {}
    rest = ("seeds", "train_sizes", "epochs", "validation_per_class")
    assert [first[name] for name in rest] == [CONFIG[name] for name in rest]


@pytest.mark.parametrize("changes", [{"selection": "validation"}, {"strengths": {"db": [0.1]}}])
def test_there_is_none_where_nothing_is_trained_again_or_nothing_to_choose(changes):
    assert retraining.first(CONFIG | changes) is None


def test_the_strength_is_chosen_once_all_runs_of_a_size_have_finished():
    of = of_first()
    records = [record(run, accuracy(run)) for run in of]
    assert retraining.chosen(of, records, "accuracy") == {("db", 5): 1.0, ("db", 0): 1.0}
    assert retraining.chosen(of, records[:-1], "accuracy") == {("db", 5): 1.0}
    assert retraining.chosen(of, [], "accuracy") == {}


def test_held_out_images_decide_and_not_the_test_images():
    of = of_first()
    records = [record(run, accuracy(run), validation_accuracy=1 - run.strength / 2) for run in of]
    assert retraining.chosen(of, records, "accuracy") == {("db", 5): 0.1, ("db", 0): 0.1}


def test_the_second_phase_has_the_chosen_strength_and_every_seed():
    again = retraining.second(runs(), {("db", 5): 0.1, ("db", 0): 1.0})
    every = [run for run in runs() if run.method != "db"]
    chosen = [run for run in of_first() if run.strength == {5: 0.1, 0: 1.0}[run.train_size]]
    assert again == chosen + every


def test_what_is_not_chosen_yet_stands_without_a_strength():
    again = retraining.second(runs(), {("db", 5): 0.1})
    some = [dataclasses.replace(run, loss="", strength=None) for run in of_first()[4:6]]
    assert again[2:4] == some
    assert [run.train_size for run in some] == [0, 0]
    assert len(again) == 2 * 2 * 3
