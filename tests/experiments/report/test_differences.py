"""Methods against each other on made-up scores: who is the baseline, pairs, and who is bold."""

import math

import numpy as np
import pytest
from tiny_compared import comparison, make_config, run, runs

from experiments.report import differences
from experiments.report.differences import against, baseline, best
from experiments.report.scoring import Scoring
from experiments.runs.selection import select


def gathered(records, config=None, score="accuracy"):
    config = config or make_config(train_sizes=(50,))
    chosen = select(records, "test", score)
    return differences.gather(config, chosen, records, Scoring(score, (score,)))


def of(method, tests, **fields):
    strength = None if method == "baseline" else 0.1
    return runs(tests, method=method, strength=strength, **fields)


@pytest.mark.parametrize(
    ("losses", "name"),
    [
        ({"ours": "x", "baseline": "x | flip"}, "baseline"),
        ({"ours": "x | flip | crop", "plain": "x | flip", "other": "y | flip"}, "plain"),
        ({}, None),
    ],
)
def test_the_baseline_is_named_or_has_the_fewest_stages(losses, name):
    assert baseline(losses) == name


def test_a_method_with_strengths_is_no_baseline():
    config = make_config(train_sizes=(50,))
    config.losses = {"baseline": "x | l2(weight={strength})", "a": "x | flip", "b": "x"}
    assert gathered(runs([0.9], method="a", strength=None), config).baseline == "b"
    config.losses = {"db": "x | l2(weight={strength})"}
    assert gathered(runs([0.9]), config) == differences.Compared(
        None, {}, {("accuracy", 50): {"db"}}
    )


def test_differences_are_of_the_chosen_strength_at_the_same_seeds():
    records = of("db", [0.91, 0.95, 0.93])[::-1] + of("baseline", [0.90, 0.92, 0.91])
    records += runs([0.5, 0.5, 0.5], strength=1.0)
    ((place, found),) = gathered(records).differences.items()
    assert place == ("db", 50)
    assert (found.n, found.paired, found.bootstrap) == (3, True, False)
    half = 4.302652729911275 * 1.0 / math.sqrt(3)  # of 1, 3 and 2 points; 2 degrees of freedom
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert found.holm == found.p == pytest.approx(0.0742, abs=1e-4)
    assert not found.is_told


def test_only_seeds_that_both_have_are_paired():
    found = against({"a": {0: 1.0, 1: 3.0, 2: 9.0}, "b": {1: 1.0, 2: 6.0, 3: 7.0}}, "b")["a"]
    assert (found.n, found.paired, found.mean) == (2, True, 2.5)


def test_methods_without_seeds_in_common_are_two_samples():
    found = against({"a": {0: 1.0, 1: 3.0, 2: 2.0}, "b": {2: 1.0, 4: 6.0}}, "b")["a"]
    assert (found.n, found.paired, found.mean) == (2, False, -1.5)
    assert found.low < -1.5 < found.high


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({0: 3.0}, {0: 1.0}),
        ({0: 3.0, 1: 4.0}, {0: 1.0}),
        ({0: 3.0, 1: 5.0}, {0: 1.0, 1: 3.0}),
        ({0: 3.0}, {1: 1.0, 2: 1.0}),
        ({0: 3.0, 1: 3.0}, {2: 0.5, 3: 1.5}),
    ],
)
def test_one_seed_or_equal_differences_have_no_interval(a, b):
    found = against({"a": a, "b": b}, "b")["a"]
    assert found.mean == 2.0
    assert (found.low, found.high, found.p, found.holm, found.is_told) == (*[None] * 4, False)
    assert best({"a": a, "b": b}) == {"a"}


def test_equal_scores_are_both_the_best():
    same = {0: 0.1, 1: 0.7}
    assert best({"a": same, "b": dict(same), "c": {0: 0.0, 1: 0.1}}) >= {"a", "b"}


def test_holms_correction_is_over_the_methods_of_a_size():
    seeds = range(4)
    values = {"plain": dict.fromkeys(seeds, 0.0)}
    for name, shift in (("a", 1.1), ("b", 0.9), ("c", 0.1)):
        values[name] = {seed: shift + 0.2 * (-1) ** seed for seed in seeds}
    found = against(values, "plain")
    p = {name: each.p for name, each in found.items()}
    assert found["a"].holm == pytest.approx(3 * p["a"])
    assert found["b"].holm == pytest.approx(2 * p["b"])
    assert found["c"].holm == p["c"]
    assert [each.is_told for each in found.values()] == [True, True, False]
    alone = against({"plain": values["plain"], "b": values["b"]}, "plain")["b"]
    assert alone.holm == alone.p == p["b"]


def test_bold_are_the_best_and_all_that_cannot_be_told_from_it():
    noise = np.random.default_rng(0).normal(0.0, 0.1, (3, 5))
    rows = noise + np.array([[90.0], [90.02], [80.0]])
    values = {name: dict(enumerate(row)) for name, row in zip("abc", rows, strict=True)}
    assert best(values) == {"a", "b"}
    assert best(values, larger_is_better=False) == {"c"}
    assert best({}) == frozenset()


def test_of_equal_methods_each_is_bold_in_95_percent():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(60, 1, 5)) + generator.normal(size=(60, 6, 5))
    names = [best({str(i): dict(enumerate(row)) for i, row in enumerate(each)}) for each in scores]
    assert np.mean([len(bold) for bold in names]) > 0.95 * 6


def test_a_lower_likelihood_is_better():
    records = [
        run(m, 50, None if m == "baseline" else 0.1, s, test_nll=nll + 0.01 * s * (m == "db"))
        for m, nll in (("db", 0.1), ("baseline", 0.5))
        for s in range(3)
    ]
    found = gathered(records, score="nll")
    assert found.best["nll", 50] == {"db"}
    assert found.differences["db", 50].mean == pytest.approx(-0.39)


@pytest.mark.parametrize("broken", ["db", "baseline"])
def test_a_method_that_diverged_has_no_difference_and_is_not_bold(broken):
    records = of("db", [0.9, 0.95]) + of("baseline", [0.8, 0.81])
    for record in records:
        record["train_loss"] = math.nan if record["method"] == broken else 0.1
    found = gathered(records)
    assert found.differences == {}
    assert found.best["accuracy", 50] == {"db", "baseline"} - {broken}


def test_every_column_has_its_best():
    records, config = comparison(), make_config()
    for record in records:
        record["test_nll"] = 0.2 if record["method"] == "db" else 0.1
    chosen = select(records, "validation")
    show = Scoring(columns=("accuracy", "nll"))
    found = differences.gather(config, chosen, records, show)
    assert found.best["accuracy", 100] == {"db"}
    assert found.best["nll", 100] == {"baseline"}
    assert set(found.differences) == {("db", 50), ("db", 100)}
