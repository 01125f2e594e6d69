"""What one chip does in one run of a compiled TPU program, read off its text.

Loops count as often as they run, which XLA's own `cost_analysis` does not do.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any, NamedTuple

from experiments.benchmark import hlo
from experiments.benchmark.flops import pairs
from experiments.pod.chips import Chip
from experiments.pod.traffic import Traffic

_WINDOW = re.compile(r"window=\{([^}]*)\}")
_LABELS = re.compile(r"dim_labels=([\w?]+)_([\w?]+)->([\w?]+)")
_SIDES = re.compile(r"\[([\d,]*)\]")
# A product of float32 at the highest precision is made of six of bfloat16, at a high one of three.
_PASSES = (("highest", 6), ("high", 3))


class Work(NamedTuple):
    """What a chip does.

    Attributes:
      flops: operations in products and convolutions, a multiplication and an addition as two.
      bytes: what is read from its memory and written to it.
      seconds: the least that products and memory take, whichever is longer in each operation.
      sent: by kind the number of operations that send, and the bytes of their arrays.
    """

    flops: float
    bytes: float
    seconds: float
    sent: dict[str, tuple[int, int]]

    def __add__(self, other: Any) -> Work:
        kinds = {*self.sent, *other.sent}
        none = (0, 0)
        sent = {
            k: tuple(map(sum, zip(self.sent.get(k, none), other.sent.get(k, none), strict=True)))
            for k in sorted(kinds)
        }
        flops, moved = self.flops + other.flops, self.bytes + other.bytes
        return Work(flops, moved, self.seconds + other.seconds, sent)  # type: ignore[arg-type]

    def __mul__(self, times: Any) -> Work:
        sent = {k: (round(times * n), round(times * size)) for k, (n, size) in self.sent.items()}
        return Work(times * self.flops, times * self.bytes, times * self.seconds, sent)


NOTHING = Work(0, 0, 0, {})


def work(
    text: str,
    chip: Chip,
    passes: int,
    outermost: int | None = None,
    mixed: bool = False,
    share: float = 1.0,
    rounds: float = 1.0,
) -> Work:
    """What a chip does in one run of a program.

    Args:
      text: of the program, `compiled.as_text()`.
      chip: by whose figures the time is estimated.
      passes: how often, or at most how often, a loop runs whose length the program does not tell.
      outermost: how often such a loop runs that stands in no other; None for `passes`.
      mixed: whether labels may be mixtures of classes, for which losses have a branch of their own,
        outside of loops, that takes longer.
      share: how often, in a loop, a conditional takes the branch that takes longest, such as for a
        class that occurs.
      rounds: how often such a loop runs in which examples are exchanged between chips.

    Returns:
      The `Work`.
    """
    computations, entry = hlo.read(text)
    traffic = Traffic(computations)

    @functools.cache
    def whole(name: str, within: bool) -> Work:
        shapes = {line.name: line.shape for line in computations[name]}
        return sum((one(line, shapes, name, within) for line in computations[name]), NOTHING)

    def one(line: hlo.Instruction, shapes: dict[str, str], place: str, within: bool) -> Work:
        called = [each for each in line.named if each in computations]
        if line.operation == "while":
            steps = place == entry and outermost is not None
            times = hlo.trips(line, computations)
            once = whole(called[-1], within or not (steps and times is None))
            unknown: float = rounds if "all-to-all" in once.sent else passes
            if steps and outermost is not None:
                unknown = outermost
            return once * (unknown if times is None else times)
        if line.operation == "conditional":
            branches = sorted((whole(b, within) for b in called), key=lambda each: each.seconds)
            often = share if within else float(mixed)
            return branches[-1] * often + branches[0] * (1 - often)
        if line.operation in ("call", "async-start"):
            return sum((whole(each, within) for each in called), NOTHING)
        products = [(line, shapes), *_inside(line, computations)]
        counts = [(_flops(each, known), _passes(each)) for each, known in products]
        moved = traffic.of(line, shapes)
        busy = sum(count * times for count, times in counts) / chip.peak
        # What only sends is bound by the links.
        seconds = 0.0 if hlo.kind(line.operation) else max(busy, moved / chip.bandwidth)
        sent = {} if _meanwhile(line) else _sent(products)
        return Work(sum(count for count, _ in counts), moved, seconds, sent)

    return whole(entry, False)


def _meanwhile(line: hlo.Instruction) -> bool:
    """Whether it is another part of what an `async-collective-start` has begun to send."""
    parts = ("async-collective-done", "async_collective_fusion")
    return any(name.startswith(parts) for name in (line.name, *line.named))


def _inside(
    line: hlo.Instruction, computations: hlo.Computations
) -> list[tuple[hlo.Instruction, dict[str, str]]]:
    """All that is fused into one operation, with the shapes of what is around it."""
    found = []
    for name in line.named if line.operation == "fusion" else ():
        inner = computations.get(name, [])
        shapes = {each.name: each.shape for each in inner}
        for each in inner:
            found += [(each, shapes), *_inside(each, computations)]
    return found


def _sent(lines: list[tuple[hlo.Instruction, dict[str, str]]]) -> dict[str, tuple[int, int]]:
    sent: dict[str, tuple[int, int]] = {}
    for line, shapes in lines:
        if size := hlo.size(line, shapes):
            kind = hlo.kind(line.operation)
            count, before = sent.get(kind, (0, 0))
            sent[kind] = (count + 1, before + size)
    return sent


def _passes(line: hlo.Instruction) -> int:
    return next((n for name, n in _PASSES if f"operand_precision={{{name}" in line.rest), 1)


def _flops(line: hlo.Instruction, shapes: dict[str, str]) -> int:
    """Of a convolution, which on TPUs all products are."""
    labels = _LABELS.search(line.rest)
    if line.operation != "convolution" or not labels:
        return 0
    of = [shapes[name] for name in line.operands] + [line.shape]
    image, kernel, out = (
        dict(zip(names, _sides(shape), strict=True))
        for names, shape in zip(labels.groups(), of, strict=True)
    )
    window = _window(line.rest)
    spatial = [name for name in out if name.isdigit()]
    each = [_pairs(image[n], kernel[n], out[n], int(n), window) for n in spatial]
    return 2 * out["b"] * out["f"] * kernel["i"] * math.prod(each)


def _sides(shape: str) -> list[int]:
    found = _SIDES.search(shape)
    return [int(side) for side in found[1].split(",") if side] if found else []


def _window(rest: str) -> dict[str, list[str]]:
    found = _WINDOW.search(rest)
    fields = (field.split("=") for field in found[1].split()) if found else ()
    return {name: value.split("x") for name, value in fields}


def _pairs(size: int, kernel: int, out: int, axis: int, window: dict[str, list[str]]) -> int:
    def value(name: str, usual: str) -> str:
        return window[name][axis] if name in window else usual

    low, high = map(int, value("pad", "0_0").split("_"))
    numbers = [int(value(name, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate")]
    stride, dilation, window_dilation = numbers
    return pairs(out, size, kernel, stride, (low, high), dilation, window_dilation)
