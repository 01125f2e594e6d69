"""What a compiled program sends between devices, read off its text."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter

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
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ARRAY = re.compile(r"\b[a-z]+(\d+)?\w*\[([\d,]*)\]")


def sent(text: str, passes: int | None = None) -> dict[str, int]:
    """Bytes of the arrays that are communicated in one run of a program, by kind of operation.

    Each array counts once, whole: a sum as what one device contributes to it, what is gathered as
    the result. How often a byte then travels depends on how devices are joined. Of a conditional
    the branch that sends most counts.

    Args:
      text: of a compiled program, `jitted.lower(...).compile().as_text()`.
      passes: how often, or at most how often, each loop runs whose length the program does not
        tell.

    Returns:
      Bytes by operation, such as `{"all-reduce": 1024}`.

    Raises:
      ValueError: something is sent in such a loop, and `passes` is None.

    Example:
      `sent(jax.jit(step).lower(*arguments).compile().as_text())`
    """
    computations, entry = _computations(text)

    @functools.cache
    def count(name: str) -> Counter[str]:
        total: Counter[str] = Counter()
        shapes = {line[0]: line[1] for line in computations[name]}
        for _, shape, operation, rest in computations[name]:
            total[_kind(operation)] += _size(shape, operation, rest, shapes)
            called = [count(each) for each in _NAME.findall(rest) if each in computations]
            if operation == "conditional":
                called = [max(called, key=Counter.total)]
            inner: Counter[str] = sum(called, Counter())
            times = _times(operation, rest, passes) if inner.total() else 1
            total.update({kind: times * size for kind, size in inner.items()})
        return total

    return {kind: size for kind, size in count(entry).items() if size}


def _computations(text: str) -> tuple[dict[str, list[tuple[str, ...]]], str]:
    """Each computation as (name, shape, operation, rest) of its instructions; the entry's name."""
    computations: dict[str, list[tuple[str, ...]]] = {}
    name = entry = ""
    # Long tuples are numbered by comments.
    for line in re.sub(r"/\*index=\d+\*/", "", text).splitlines():
        instruction = _INSTRUCTION.match(line)
        if instruction and name:
            computations[name].append(instruction.groups())
        elif header := _COMPUTATION.match(line):
            name = header[2]
            computations[name] = []
            entry = name if header[1] else entry
    return computations, entry


def _kind(operation: str) -> str:
    return next((kind for kind in KINDS if operation.startswith(kind)), "")


def _size(shape: str, operation: str, rest: str, shapes: dict[str, str]) -> int:
    """Bytes of a communication; of the two halves of an asynchronous one, one has them all."""
    kind = _kind(operation)
    if kind == "all-gather":
        return 0 if operation.endswith("-start") else _bytes(shape)
    if not kind or operation.endswith("-done"):
        return 0
    operands = _NAME.findall(rest.split(")")[0])
    return sum(_bytes(shapes.get(operand, "")) for operand in operands)


def _times(operation: str, rest: str, passes: int | None) -> int:
    if operation != "while":
        return 1
    if known := _TRIPS.search(rest):
        return int(known[1])
    if passes is None:
        raise ValueError(
            "something is sent in a loop of unknown length: say passes=, how often it runs."
        )
    return passes


def _bytes(shape: str) -> int:
    return sum(
        math.prod(map(int, filter(None, sides.split(",")))) * max(int(bits or 8), 8) // 8
        for bits, sides in _ARRAY.findall(shape)
    )
