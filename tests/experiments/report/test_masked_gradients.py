"""The check of attacks, on scores made up by hand."""

import pytest
from tiny_tested import HALF, PGD, RUNS, found_of, half, make_config, scored

from experiments.report.masked_gradients import gradients


def said(records, text=HALF, runs=RUNS, **changes):
    return list(gradients(found_of(make_config({"PGD": text}, **changes), records, runs)[0], 10))


def test_an_attack_that_misleads_all_is_no_sign_of_masked_gradients():
    assert said(half(0.0, 9.5)) == [
        "Masked gradients: PGD with epsilon 0.5 (chance is 10 %) leaves at most 9.5 % to any "
        "method: no sign of them."
    ]


def test_few_images_may_leave_a_little_more_than_chance():
    assert said(half(0.0, 12.4))[0].endswith("no sign of them.")
    assert "mislead" in said(half(0.0, 12.6))[0]


def test_an_attack_that_leaves_more_than_chance_is_blind():
    (sentence,) = said(half(0.0, 35.0))
    assert sentence == (
        "Masked gradients: PGD with epsilon 0.5 (chance is 10 %) leaves 35.0 % to plain: the "
        "attack does not see what these networks do, so its numbers mislead."
    )


def test_the_largest_epsilon_counts_wherever_it_stands():
    text = "pgd(epsilon=(0.5, 0.1))"
    records = [scored("NFM", 0, text, (2.0, 80.0))]
    assert "leaves at most 2.0 %" in said(records, text)[0]


@pytest.mark.parametrize(
    "text", [PGD, "pgd(epsilon=(0.1, 0.5), norm='l2')", "fgsm(epsilon=(0.1, 0.5))"]
)
def test_a_small_ball_another_norm_and_one_step_say_nothing(text):
    assert said(half(90.0, 90.0, text), text) == []
    assert said([], HALF) == []


def test_a_blind_attack_on_one_training_size_is_not_hidden_by_another():
    runs = [r | {"train_size": size} for r in RUNS for size in (0, 50)]
    records = half(60.0, 0.0, size=50) + half(0.0, 0.0)
    (sentence,) = said(records, runs=runs, train_sizes=[50, 0])
    assert "leaves 60.0 % to NFM (50 per class): the attack does not see" in sentence
