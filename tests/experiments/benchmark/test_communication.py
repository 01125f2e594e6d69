"""Bytes that are sent, counted in programs written by hand.

Covers `hlo.py` too.
"""

import functools

import hlo_programs
import pytest

from experiments.benchmark import communication
from experiments.benchmark.hlo import sent

# Its text, with an array that the lines may name.
program = functools.partial(hlo_programs.program, "%x = f32[8,3]{1,0} parameter(0)")


def test_every_kind_counts_its_array_once():
    text = program(
        "%half = bf16[10]{0} convert(%x)",
        "%flag = pred[] parameter(1)",
        "%r = (f32[8,3]{1,0}, bf16[10]{0}, /*index=2*/pred[]) all-reduce(%x, %half, %flag), "
        "channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add",
        "%g = f32[16,3]{1,0} all-gather(%x), channel_id=2, dimensions={0}",
        "%s = f32[4,3]{1,0} reduce-scatter(%x), channel_id=3, dimensions={0}, to_apply=%add",
        "%p = f32[8,3]{1,0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}",
        "ROOT %a = f32[8,3]{1,0} all-to-all(%x), channel_id=4, dimensions={0}",
    )
    assert sent(text) == {
        "all-reduce": 96 + 20 + 1,
        "all-gather": 192,
        "reduce-scatter": 96,
        "collective-permute": 96,
        "all-to-all": 96,
    }


def test_the_halves_of_an_asynchronous_one_count_once():
    text = program(
        "%r0 = f32[8,3]{1,0} all-reduce-start(%x), channel_id=1, to_apply=%add",
        "%r1 = f32[8,3]{1,0} all-reduce-done(%r0)",
        "%g0 = (f32[8,3]{1,0}, f32[16,3]{1,0}) all-gather-start(%r1), dimensions={0}",
        "%g1 = f32[16,3]{1,0} all-gather-done(%g0)",
        "%p0 = (f32[8,3]{1,0}, f32[8,3]{1,0}, u32[], u32[]) collective-permute-start(%r1)",
        "ROOT %p1 = f32[8,3]{1,0} collective-permute-done(%p0)",
    )
    assert sent(text) == {"all-reduce": 96, "all-gather": 192, "collective-permute": 96}


BODY = """
%body (y: f32[2]) -> f32[2] {
  %y = f32[2]{0} parameter(0)
  ROOT %r = f32[2]{0} all-reduce(%y), channel_id=1, to_apply=%add
}

%large (y: f32[9]) -> f32[9] {
  %y = f32[9]{0} parameter(0)
  ROOT %r = f32[9]{0} all-reduce(%y), channel_id=1, to_apply=%add
}

%test (y: f32[2]) -> pred[] {
  %y = f32[2]{0} parameter(0)
  ROOT %p = pred[] constant(true)
}
"""


def test_a_loop_counts_as_often_as_it_runs():
    known = ', backend_config={"known_trip_count":{"n":"5"}}'
    line = "ROOT %w = f32[2]{0} while(%x), condition=%test, body=%body"
    assert sent(program(line + known, more=BODY)) == {"all-reduce": 5 * 8}
    assert sent(program(line, more=BODY), passes=3) == {"all-reduce": 3 * 8}
    assert sent(program(line, more=BODY), passes=3, rounds=2.5) == {"all-reduce": 3 * 8}
    exchange = BODY.replace("all-reduce", "all-to-all")
    assert sent(program(line, more=exchange), passes=3, rounds=2.5) == {"all-to-all": 20}
    with pytest.raises(ValueError, match="a loop of unknown length: say passes="):
        sent(program(line, more=BODY))
    assert sent(program(line.replace("body=%body", "body=%test"), more=BODY)) == {}


def test_of_a_conditional_the_branch_that_sends_most_counts():
    line = "ROOT %c = f32[2]{0} conditional(%x), branch_computations={%body, %large, %test}"
    assert sent(program(line, more=BODY)) == {"all-reduce": 36}
    twice = "%k = f32[2]{0} call(%x), to_apply=%body"
    assert sent(program(twice, line, more=BODY)) == {"all-reduce": 36 + 8}


def test_devices_exchange_examples_in_as_many_rounds_as_two_of_them_need():
    assert communication.rounds(32, 1) == 1
    assert 1 <= communication.rounds(4, 2) <= 2  # one at a time, of the two that a device has
    # By simulation of other draws: the most of 256 numbers of mean 8 is 17, of 4,096 of mean 1, 6.
    assert 2 < communication.rounds(2048, 16) <= 3
    assert 5 < communication.rounds(4096, 64) < 8
