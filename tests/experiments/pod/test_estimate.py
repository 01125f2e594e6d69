"""Times and advice, of numbers that can be reckoned by hand."""

import pytest

from experiments.pod.chips import CHIPS
from experiments.pod.estimate import advice, seconds, sending, wanted
from experiments.pod.program import Work

CHIP = CHIPS["v5e"]
CONFIG = {"dtype": "float32", "fsdp": 1, "accumulate": 1, "batch_size": 256}
PARTS = {"network": 200_000_000, "optimizer": 100_000_000, "statistics": 0, "data": 0}


def test_a_sum_travels_twice_and_all_else_once():
    work = Work(1e9, 1e9, 0.5, {"all-reduce": (3, 100_000_000), "all-gather": (1, 200_000_000)})
    assert sending(work, CHIP) == pytest.approx(0.4e9 / 200e9)
    assert seconds(work, CHIP) == pytest.approx(0.502)


def test_work_adds_up_and_repeats():
    one, other = Work(1, 2, 3, {"all-reduce": (1, 8)}), Work(10, 20, 30, {"all-to-all": (2, 4)})
    both = one + other * 2
    assert both == Work(21, 42, 63, {"all-reduce": (1, 8), "all-to-all": (4, 8)})


def test_what_the_compiler_says_it_wanted_is_read():
    text = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 33.5G of 15.75G hbm."
    assert wanted(text) == int(33.5 * 2**30)
    text = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (15.5G) exceeds available HBM (15.75G)"
    )
    assert wanted(text) == int(15.5 * 2**30)
    assert wanted("INVALID_ARGUMENT: Used 3G of 4G words.") is None
    assert wanted("RESOURCE_EXHAUSTED: out of memory, elsewhere") is None


def test_statistics_too_large_are_to_be_split_over_an_axis_that_their_classes_fit():
    parts = PARTS | {"statistics": 16_800_000_000}
    first, *_ = advice(CONFIG, parts, 18_000_000_000, CHIP, 64, 1000)
    # Of the divisors of 64 that divide 1000, the largest is 8.
    assert "config.parallelism='jit', config.fsdp=8, isda(..., axis_name=" in first
    assert "1000 classes over 8 chips: 14.70 GB less" in first
    assert not any("isda" in each for each in advice(CONFIG, parts, 0, CHIP, 64, 1001))
    first, *_ = advice(CONFIG, parts, 18_000_000_000, CHIP, 4, 1000)
    assert "config.fsdp=1, isda(..., axis_name='data')" in first


def test_layers_too_large_are_to_be_taken_in_parts_or_in_half_the_precision():
    found = advice(CONFIG, PARTS, 40_300_000_000, CHIP, 64, 10)
    # 40 GB in four parts are 10, which fit beside the network; more are not needed.
    assert "config.accumulate=4" in found[0]
    assert "30.00 GB less" in found[0]
    assert "config.dtype='bfloat16'" in found[1]
    assert "config.fsdp=64" in found[2]
    small = {**CONFIG, "dtype": "bfloat16", "fsdp": 64, "batch_size": 64}
    assert advice(small, PARTS, 40_300_000_000, CHIP, 64, 10) == []
    stored = PARTS | {"data": 10_000_000_000}
    assert "config.data='stream'" in advice(small, stored, 20_000_000_000, CHIP, 64, 10)[0]
