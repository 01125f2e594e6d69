"""The benchmark runs, and its numbers are what they say they are."""

import itertools
import json

import pytest

from experiments import benchmark


def test_a_quick_run_has_a_row_for_each_transform_and_strategy(monkeypatch):
    chosen = {"double_backprop": benchmark.TRANSFORMS["double_backprop"]}
    monkeypatch.setattr(benchmark, "TRANSFORMS", chosen)
    result = benchmark.run(quick=True)
    plain, double = result["transforms"]["rows"]
    assert (plain["transform"], double["transform"]) == ("plain", "double_backprop")
    assert plain["flops"] == plain["memory"] == plain["time"] == 1
    assert 1.8 < double["flops"] < 2.1
    assert double["time"] > 0
    rows = result["sweeps"]["rows"]
    assert [row["strategy"] for row in rows] == ["vmap", "map", "sharded"]
    for row in rows:
        assert row["gain"] == pytest.approx(row["throughput"] / row["one_at_a_time"])
    json.dumps(result, allow_nan=False)


def test_timings_are_taken_in_turn_and_the_ratio_is_the_median_of_pairs():
    order = []
    first = itertools.chain([9.0], [1.0, 2.0, 4.0])
    second = itertools.chain([9.0], [2.0, 8.0, 12.0])

    def timing(name, times):
        def take():
            order.append(name)
            return next(times)

        return take

    assert benchmark.paired(timing("a", first), timing("b", second), 3) == (2.0, 3.0)
    assert order == ["a", "b"] * 4


def test_the_table_is_markdown():
    text = benchmark.table([{"x": "a", "y": 1.234}], {"x": "s", "y": ".1f"})
    assert text == "| x | y |\n| --- | --- |\n| a | 1.2 |"
