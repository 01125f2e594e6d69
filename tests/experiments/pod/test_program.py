"""What a chip does, counted in programs written by hand as TPUs' compiler writes them.

Covers `traffic.py` too.
"""

import pytest
from hlo_programs import program

from experiments.pod.chips import CHIPS
from experiments.pod.program import work

CHIP = CHIPS["v5e"]


def found(*lines, more="", passes=7, **options):
    return work(program(*lines, more=more), CHIP, passes, **options)


X = "%x = f32[8,3]{1,0:T(8,128)} parameter(0)"


def test_products_count_pairs_that_meet_and_passes_take_their_time():
    product = "%p = f32[8,5]{1,0:T(8,128)} convolution(%x, %k), dim_labels=bf_io->bf"
    kernel = "%k = f32[3,5]{1,0:T(8,128)} parameter(1)"
    one = found(X, kernel, product)
    assert one.flops == 2 * 8 * 3 * 5
    assert one.bytes == 4 * (8 * 3 + 3 * 5 + 8 * 5)
    assert one.seconds == pytest.approx(one.bytes / CHIP.bandwidth)
    image = "%i = bf16[2,4,4,512]{3,0,2,1:T(8,128)(2,1)S(1)} parameter(0)"
    kernel = "%k = bf16[3,3,512,6]{3,2,1,0:T(8,128)(2,1)S(1)} parameter(1)"
    line = (
        "%c = bf16[2,2,2,6]{3,0,2,1:T(8,128)(2,1)S(1)} convolution(%i, %k), window={size=3x3 "
        "stride=2x2 pad=1_0x1_0}, dim_labels=b01f_01io->b01f"
    )
    # At each edge two of three pixels are met, further in all three.
    once = found(image, kernel, line)
    assert once.flops == 2 * 2 * 6 * 512 * (2 + 3) ** 2
    assert once.bytes == 0  # all lies on the chip
    assert once.seconds == pytest.approx(once.flops / CHIP.peak)
    highest = found(image, kernel, f"{line}, operand_precision={{highest,highest}}")
    assert highest.flops == once.flops
    assert highest.seconds == pytest.approx(6 * once.seconds)


LOOP = """
%body (p: (s32[], f32[8,3])) -> (s32[], f32[8,3]) {
  %p = (s32[]{:T(128)}, f32[8,3]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)S(2)} get-tuple-element(%p), index=0
  %v = f32[8,3]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %r = f32[8,3]{1,0:T(8,128)} all-reduce(%v), channel_id=1, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[8,3]{1,0:T(8,128)}) tuple(%i, %r)
}
%test (p: (s32[], f32[8,3])) -> pred[] {
  %n = s32[]{:T(128)} END
  %p = (s32[]{:T(128)}, f32[8,3]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %l = pred[]{:T(512)} compare(%i, %n), direction=LT, metadata={op_name="lt"}
}
"""
WHILE = "%w = (s32[]{:T(128)}, f32[8,3]{1,0}) while(%t), condition=%test, body=%body"


def test_loops_count_as_often_as_their_condition_says_or_as_is_told():
    known = LOOP.replace("END", "constant(10)")
    assert found(X, WHILE, more=known).sent == {"all-reduce": (10, 960)}
    unknown = LOOP.replace("END", "get-tuple-element(%p), index=0")
    assert found(X, WHILE, more=unknown).sent == {"all-reduce": (7, 672)}
    assert found(X, WHILE, more=unknown, outermost=1).sent == {"all-reduce": (1, 96)}
    within = unknown + "\n%called (x: f32[]) -> f32[] {\n  " + WHILE + "\n}\n"
    called = "%c = f32[8,3]{1,0} call(%x), to_apply=%called"
    assert found(X, called, more=within, outermost=1).sent == {"all-reduce": (7, 672)}


def test_exchanges_count_as_often_as_is_told():
    again = LOOP.replace("END", "get-tuple-element(%p), index=0").replace("reduce", "to-all")
    assert found(X, WHILE, more=again, rounds=2.5).sent == {"all-to-all": (2, 240)}
    assert found(X, WHILE, more=again, rounds=2.5, outermost=1).sent == {"all-to-all": (1, 96)}
    assert found(X, WHILE, more=again.replace("to-all", "reduce"), rounds=2.5).sent == {
        "all-reduce": (7, 672)
    }


def test_branches_count_as_often_as_they_are_taken():
    branches = (
        "\n%near (n: f32[8,3]) -> f32[8,3] {\n  %n = f32[8,3]{1,0} parameter(0)\n"
        "  ROOT %g = f32[8,3]{1,0} negate(%n)\n}\n"
        "\n%far (f: f32[8,3]) -> f32[8,3] {\n  ROOT %f = f32[8,3]{1,0} parameter(0)\n}\n"
    )
    line = "%c = f32[8,3]{1,0} conditional(%q, %x, %x), branch_computations={%far, %near}"
    assert found(X, line, more=branches).bytes == 0
    assert found(X, line, more=branches, mixed=True).bytes == 2 * 96
    body = "%r = f32[8,3]{1,0:T(8,128)} all-reduce(%v), channel_id=1, to_apply=%add"
    again = LOOP.replace(body, line.replace("%c", "%r").replace("%x", "%v"))
    again = branches + again.replace("END", "constant(10)")
    assert found(X, WHILE, more=again).bytes == 10 * 2 * 96
    assert found(X, WHILE, more=again, share=0.25).bytes == 10 * 2 * 96 / 4


def test_the_parts_of_one_sending_are_one():
    halves = (
        "%s = (f32[8,3]{1,0}, f32[16,3]{1,0}) all-gather-start(%x), dimensions={0}",
        "%d = f32[16,3]{1,0} all-gather-done(%s)",
        "%c = (f32[8,3]{1,0:S(1)}, f32[8,3]{1,0}, u32[]{:S(2)}) copy-start(%x)",
        "%e = f32[8,3]{1,0:T(8,128)S(1)} copy-done(%c)",
    )
    assert found(X, *halves).sent == {"all-gather": (1, 192)}
    fused = "".join(
        f"\n%{name} (x: f32[8,3]) -> f32[16,3] {{\n  %x = f32[8,3]{{1,0}} parameter(0)\n"
        "  ROOT %g = f32[16,3]{1,0} all-gather(%x), channel_id=3\n}\n"
        for name in ("first", "async_collective_fusion.1", "last")
    )
    thirds = (
        "%async-collective-start.1 = f32[16,3]{1,0} fusion(%x), kind=kCustom, calls=%first",
        "%f = f32[16,3]{1,0} fusion(%x), kind=kOutput, calls=%async_collective_fusion.1",
        "%async-collective-done.1 = f32[16,3]{1,0} fusion(%f), kind=kCustom, calls=%last",
    )
    assert found(X, *thirds, more=fused).sent == {"all-gather": (1, 192)}


FUSED = """
%inner (a: f32[100,64,64], b: f32[1,64,64], i: s32[]) -> f32[100,64,64] {
  %a = f32[100,64,64]{2,1,0} parameter(0)
  %b = f32[1,64,64]{2,1,0} parameter(1)
  %i = s32[] parameter(2)
  %d = f32[1,64,64]{2,1,0} dynamic-slice(%a, %i, %i, %i), dynamic_slice_sizes={1,64,64}
  %m = f32[1,64,64]{2,1,0} add(%d, %b)
  ROOT %u = f32[100,64,64]{2,1,0} dynamic-update-slice(%a, %m, %i, %i, %i)
}
"""


def test_of_an_array_that_is_changed_in_place_only_the_part_counts():
    lines = (
        "%a = f32[100,64,64]{2,1,0} parameter(0)",
        "%b = f32[1,64,64]{2,1,0} parameter(1)",
        "%i = s32[]{:S(2)} parameter(2)",
        "%f = f32[100,64,64]{2,1,0} fusion(%a, %b, %i), kind=kLoop, calls=%inner",
    )
    assert found(*lines, more=FUSED).bytes == 3 * 4 * 64 * 64
    outer = FUSED + (
        "\n%outer (p: f32[100,64,64], q: f32[1,64,64], r: s32[]) -> f32[100,64,64] {\n"
        "  %p = f32[100,64,64]{2,1,0} parameter(0)\n  %q = f32[1,64,64]{2,1,0} parameter(1)\n"
        "  %r = s32[] parameter(2)\n  %g = f32[100,64,64]{2,1,0} fusion(%p, %q, %r), "
        "kind=kLoop, calls=%inner\n  ROOT %h = f32[100,64,64]{2,1,0} bitcast(%g)\n}\n"
    )
    nested = lines[-1].replace("%inner", "%outer")
    assert found(*lines[:3], nested, more=outer).bytes == 3 * 4 * 64 * 64
    whole = FUSED.replace("dynamic-slice(%a, %i, %i, %i)", "negate(%a)")
    assert found(*lines, more=whole).bytes == 4 * 64 * 64 * (100 + 1 + 1)
    alone = "%f = f32[1,64,64]{2,1,0} dynamic-slice(%a, %i, %i, %i), sizes={1,64,64}"
    assert found(*lines[:3], alone).bytes == 2 * 4 * 64 * 64
