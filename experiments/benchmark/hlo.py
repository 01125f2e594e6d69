"""What a compiled program sends between devices, read off its text."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
    "all-to-all",
)
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) .*\{$")
_NAME = re.compile(r"%([\w.-]+)")
_LESS = re.compile(r"%([\w.-]+), %([\w.-]+)\), direction=LT")
_CONDITION = re.compile(r"condition=%([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ARRAY = re.compile(r"\b[a-z]+(\d+)?\w*\[([\d,]*)\]")


class Instruction(NamedTuple):
    """One line of a program, `%name = shape operation(rest`."""

    name: str
    shape: str
    operation: str
    rest: str

    @property
    def named(self) -> list[str]:
        """The names of its operands, and of the computations that it calls."""
        return _NAME.findall(self.rest)

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return _NAME.findall(self.rest.split(")")[0])


Computations = dict[str, list[Instruction]]


def sent(text: str, passes: int | None = None, rounds: float | None = None) -> dict[str, int]:
    """Bytes of the arrays that are communicated in one run of a program, by kind of operation.

    Each array counts once, whole: a sum as what one device contributes to it, what is gathered as
    the result. How often a byte then travels depends on how devices are joined. Of a conditional
    the branch that sends most counts.

    Args:
      text: of a compiled program, `jitted.lower(...).compile().as_text()`.
      passes: how often, or at most how often, each loop runs whose length the program does not
        tell.
      rounds: the same of each such loop in which examples are exchanged, see
        `communication.rounds`; None for `passes`.

    Returns:
      Bytes by operation, such as `{"all-reduce": 1024}`.

    Raises:
      ValueError: something is sent in such a loop, and `passes` is None.

    Example:
      `sent(jax.jit(step).lower(*arguments).compile().as_text())`
    """
    computations, entry = read(text)

    @functools.cache
    def count(name: str) -> Counter[str]:
        total: Counter[str] = Counter()
        shapes = {line.name: line.shape for line in computations[name]}
        for line in computations[name]:
            total[kind(line.operation)] += size(line, shapes)
            called = [count(each) for each in line.named if each in computations]
            if line.operation == "conditional":
                called = [max(called, key=Counter.total)]
            inner: Counter[str] = sum(called, Counter())
            exchange = "all-to-all" in inner and rounds is not None
            often = rounds if exchange else passes
            times = _times(line, computations, often) if inner.total() else 1
            total.update({kind: round(times * size) for kind, size in inner.items()})
        return total

    return {kind: size for kind, size in count(entry).items() if size}


def read(text: str) -> tuple[Computations, str]:
    """A program's computations by name, and the name of the one that it begins with."""
    computations: Computations = {}
    name = entry = ""
    # Long tuples are numbered by comments.
    for line in re.sub(r"/\*index=\d+\*/", "", text).splitlines():
        instruction = _INSTRUCTION.match(line)
        if instruction and name:
            computations[name].append(Instruction(*instruction.groups()))
        elif header := _COMPUTATION.match(line):
            name = header[2]
            computations[name] = []
            entry = name if header[1] else entry
    return computations, entry


def kind(operation: str) -> str:
    """What an operation sends, one of `KINDS`; "" for all others."""
    return next((kind for kind in KINDS if operation.startswith(kind)), "")


def size(line: Instruction, shapes: dict[str, str]) -> int:
    """Bytes of a communication; of the two halves of an asynchronous one, one has them all."""
    if kind(line.operation) == "all-gather":
        return 0 if line.operation.endswith("-start") else sum_of_bytes(line.shape)
    if not kind(line.operation) or line.operation.endswith("-done"):
        return 0
    return sum(sum_of_bytes(shapes.get(operand, "")) for operand in line.operands)


def trips(line: Instruction, computations: Computations) -> int | None:
    """How often a loop runs; None where the program does not tell.

    CPUs' programs say it, of TPUs' the condition compares a counter, from 0 on, with a constant.
    """
    if known := _TRIPS.search(line.rest):
        return int(known[1])
    condition = _CONDITION.search(line.rest)
    lines = computations.get(condition[1], []) if condition else []
    constants = {each.name: each.rest for each in lines if each.operation == "constant"}
    compared = lines and _LESS.match(lines[-1].rest)
    end = constants.get(compared[2], "") if compared else ""
    return int(end.split(")")[0]) if end else None


def _times(line: Instruction, computations: Computations, passes: float | None) -> float:
    if line.operation != "while":
        return 1
    known = trips(line, computations)
    if known is None and passes is None:
        raise ValueError(
            "something is sent in a loop of unknown length: say passes=, how often it runs."
        )
    return known if known is not None else passes or 0


def sum_of_bytes(shape: str) -> int:
    """Bytes of an array, or of all arrays of a tuple."""
    return sum(
        math.prod(map(int, filter(None, sides.split(",")))) * max(int(bits or 8), 8) // 8
        for bits, sides in _ARRAY.findall(shape)
    )
