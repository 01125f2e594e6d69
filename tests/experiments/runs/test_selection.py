"""Rows out of runs, and the choice of strengths."""

import math
import statistics

import pytest
from tiny_compared import comparison, run, runs

from experiments.runs.selection import amount, is_diverged, rule, select, summarize


def test_mean_and_sample_deviation_in_percent():
    (row,) = select(runs([0.90, 0.91, 0.95]), "test")
    assert (row.n, row.diverged) == (3, 0)
    assert row.mean == pytest.approx(92.0)
    assert row.std == pytest.approx(statistics.stdev([90.0, 91.0, 95.0]))
    assert row.validation == pytest.approx(90.0)
    assert row.loss == "cross_entropy | db(0.1)"


def test_one_run_has_no_deviation():
    (row,) = select(runs([0.9]), "test")
    assert row.n == 1
    assert row.std is None


def test_the_two_rules_can_disagree():
    records = runs([0.95, 0.95], strength=0.1, validation=0.80)
    records += runs([0.90, 0.92], strength=1.0, validation=0.85)
    (by_test,) = select(records, "test")
    (by_validation,) = select(records, "validation")
    assert by_test.strength == 0.1
    assert by_validation.strength == 1.0
    assert by_validation.mean == pytest.approx(91.0)  # The test accuracy is what is reported.


@pytest.mark.parametrize("selection", ["test", "validation"])
def test_ties_go_to_the_smaller_strength_in_any_order(selection):
    records = [
        *runs([0.91, 0.93, 0.97], strength=3.0),
        *runs([0.97, 0.91, 0.93], strength=0.01),
        *runs([0.93, 0.97, 0.91], strength=1.0),
    ]
    for ordered in (records, records[::-1]):
        (row,) = select(ordered, selection)
        assert row.strength == 0.01


@pytest.mark.parametrize("key", ["train_loss", "test_nll", "test_accuracy", "validation_accuracy"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("selection", ["test", "validation"])
def test_a_strength_with_a_diverged_run_does_not_win(key, value, selection):
    good = runs([0.90, 0.90], strength=0.1)
    bad = runs([0.99, 0.99], strength=1.0, validation=0.99)
    bad[1][key] = value
    (row,) = select(good + bad, selection)
    assert (row.strength, row.mean) == (0.1, pytest.approx(90.0))


@pytest.mark.parametrize("key", ["train_loss", "test_nll", "test_ece", "test_accuracy"])
def test_a_null_in_the_journal_is_a_diverged_run(key):
    (row,) = select(runs([0.9], **{key: None}), "test")
    assert (row.diverged, row.mean) == (1, None)


def test_where_everything_diverged_there_is_no_mean():
    bad = runs([0.1, 0.1], strength=0.1, train_loss=math.nan)
    half = runs([0.1, 0.9], strength=1.0)
    half[0]["train_loss"] = math.nan
    (row,) = select(bad + half, "validation")
    assert (row.strength, row.n, row.diverged) == (1.0, 2, 1)
    assert row.mean is row.std is row.validation is None


def test_a_strength_with_fewer_seeds_than_another_does_not_win_by_luck():
    records = runs([0.99], strength=1.0) + runs([0.90, 0.90], strength=0.1)
    (row,) = select(records, "test")
    assert (row.strength, row.n) == (0.1, 2)


def test_cells_may_differ_in_their_seeds():
    records = runs([0.9, 0.9], size=50) + runs([0.9], size=100)
    assert [(row.train_size, row.n) for row in select(records, "test")] == [(50, 2), (100, 1)]


def test_one_row_per_method_and_size_in_order():
    rows = select(comparison()[::-1], "test")
    assert [(r.method, r.train_size, r.strength) for r in rows] == [
        ("baseline", 50, None),
        ("baseline", 100, None),
        ("db", 50, 1.0),
        ("db", 100, 1.0),
    ]


def test_selection_errors():
    with pytest.raises(ValueError, match=r"'train'.*'validation', 'test'"):
        select(runs([0.9]), "train")
    two = runs([0.9], validation=None) + runs([0.8], validation=None, strength=9.0)
    with pytest.raises(ValueError, match="run of db has none"):
        select(two, "validation")
    # Of one strength there is nothing to choose.
    assert select(runs([0.9], validation=None), "validation")[0].mean == 90.0
    assert select(runs([0.9], validation=None), "test")[0].validation is None


def test_every_score_has_its_mean_and_deviation_as_it_is_shown():
    some = {"test_balanced_accuracy": 0.5, "test_spread": 7.0, "test_confusion": [[1, 2]]}
    records = runs([0.9, 0.8], **some)
    for record, nll, ece in zip(records, (0.3, 0.5), (0.02, 0.05), strict=True):
        record.update(test_nll=nll, test_ece=ece)
    (row,) = summarize(records)
    assert list(row.scores) == ["accuracy", "nll", "ece", "balanced_accuracy", "spread"]
    assert row.scores["accuracy"] == (row.mean, row.std)
    assert row.scores["nll"] == pytest.approx((0.4, statistics.stdev([0.3, 0.5])))
    assert row.scores["ece"] == pytest.approx((3.5, statistics.stdev([2.0, 5.0])))
    assert row.scores["balanced_accuracy"] == (50.0, 0.0)
    assert row.scores["spread"] == (7.0, 0.0)


def test_a_score_that_one_run_lacks_has_no_mean_and_the_run_is_sound():
    records = [run(seed=0, test_auc=0.9), run(seed=1), run(seed=2, test_auc=None)]
    (row,) = summarize(records)
    assert (row.diverged, row.scores["auc"]) == (0, (None, None))
    assert row.mean == pytest.approx(90.0)
    broken = [run(seed=0), run(seed=1, diverged="step 3: total")]
    assert set(summarize(broken)[0].scores.values()) == {(None, None)}


def test_older_records_that_lack_metrics_are_sound():
    older = {n: v for n, v in run().items() if n not in ("test_nll", "test_ece")}
    assert not is_diverged(older)
    assert list(summarize([older])[0].scores) == ["accuracy"]


@pytest.mark.parametrize("key", ["train_loss", "test_miou"])
@pytest.mark.parametrize("value", [None, math.nan, "missing"])
def test_a_run_without_its_loss_or_main_score_has_diverged(key, value):
    record = run(test_miou=0.5)
    assert not is_diverged(record, "miou")
    record[key] = value
    if value == "missing":
        del record[key]
    assert is_diverged(record, "miou")


def test_another_main_score_chooses_the_strength():
    records = runs([0.9, 0.9], strength=0.1, test_miou=0.3, validation_miou=0.5)
    records += runs([0.8, 0.8], strength=1.0, test_miou=0.4, validation_miou=0.4)
    (by_test,), (held_out,) = (select(records, rule, "miou") for rule in ("test", "validation"))
    assert (by_test.strength, by_test.mean) == (1.0, pytest.approx(40.0))
    assert (held_out.strength, held_out.validation) == (0.1, pytest.approx(50.0))


def test_the_least_likelihood_loss_is_the_best():
    records = runs([0.9], strength=0.1, test_nll=0.7) + runs([0.9], strength=1.0, test_nll=0.2)
    (row,) = select(records, "test", "nll")
    assert (row.strength, row.mean) == (1.0, pytest.approx(0.2))
    with pytest.raises(ValueError, match="needs the validation negative log-likelihood of every"):
        select(records, "validation", "nll")


def test_the_rules_in_words():
    assert rule("validation") == "the best mean accuracy on held-out training images"
    assert rule("validation", held_out=False) == "the best mean accuracy on the validation images"
    words = "the best mean intersection over union on the validation images themselves"
    assert rule("test", "miou", "validation").startswith(words)
    assert amount(0) == "all images"
