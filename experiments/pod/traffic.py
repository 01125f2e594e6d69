"""What an operation of a compiled TPU program reads from a chip's memory and writes to it."""

from __future__ import annotations

import re

from experiments.benchmark import hlo

_ARRAY = re.compile(r"[a-z]+\d*\w*\[[\d,]*\](?:\{[^}]*\})?")
# Their arrays are names of others, come with them, or stay on the chip.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "async-done", "async-update"),
}
_PARTS = ("dynamic-slice", "slice", "gather")


def in_memory(shape: str) -> int:
    """Bytes of the arrays of a shape that lie in HBM: those of other spaces are on the chip."""
    return sum(hlo.sum_of_bytes(each) for each in _ARRAY.findall(shape) if "S(" not in each)


class Traffic:
    """The traffic of the operations of one program."""

    def __init__(self, computations: hlo.Computations) -> None:
        """Takes over what `hlo.read` returns."""
        self._computations = computations

    def of(self, line: hlo.Instruction, shapes: dict[str, str]) -> int:
        """Bytes that one operation, alone or fused of several, reads and writes.

        Of an array of which only a part is looked at or replaced, that part counts.

        Args:
          line: the operation.
          shapes: of all arrays around it, by name.
        """
        if line.operation in _FREE or line.operation.endswith("-done"):
            return 0
        inner = next((n for n in line.named if n in self._computations), "")
        if line.operation == "fusion" and inner:
            read = sum(
                self._read(inner, place, shapes.get(operand, ""))
                for place, operand in enumerate(line.operands)
            )
            return read + self._written(inner, line.shape)
        if line.operation.endswith("-start"):  # a copy to the chip or from it
            return max(in_memory(shapes.get(each, "")) for each in line.operands)
        return self._alone(line, [shapes.get(each, "") for each in line.operands])

    def _alone(self, line: hlo.Instruction, operands: list[str]) -> int:
        if line.operation in _PARTS:
            part = hlo.sum_of_bytes(line.shape) if in_memory(operands[0]) else 0
            return part + in_memory(line.shape)
        if line.operation == "dynamic-update-slice":
            return in_memory(operands[1]) + _part(operands[1], line.shape)
        return sum(map(in_memory, operands)) + in_memory(line.shape)

    def _read(self, name: str, place: int, shape: str) -> int:
        """Bytes of an operand that the fused operations read."""
        if not in_memory(shape):
            return 0
        lines = self._computations[name]
        parameter = next(
            (
                x.name
                for x in lines
                if x.operation == "parameter" and x.rest.startswith(f"{place})")
            ),
            "",
        )
        return min(self._used(name, parameter, shape), in_memory(shape))

    def _used(self, name: str, array: str, shape: str) -> int:
        total = 0
        for line in self._computations[name]:
            if array not in line.operands:
                continue
            first = line.operands[0] == array
            if line.operation in _PARTS and first:
                total += hlo.sum_of_bytes(line.shape)
            elif line.operation == "bitcast":
                total += self._used(name, line.name, shape)
            elif line.operation == "fusion":
                inner = next(n for n in line.named if n in self._computations)
                total += self._read(inner, line.operands.index(array), shape)
            elif line.operation != "dynamic-update-slice" or not first:
                return in_memory(shape)
        return total

    def _written(self, name: str, shape: str) -> int:
        """Bytes of its result, or of those parts of it that the fused operations replace."""
        return sum(
            self._replaced(name, self._computations[name][-1], place, each)
            for place, each in enumerate(_ARRAY.findall(shape))
        )

    def _replaced(self, name: str, root: hlo.Instruction, place: int, shape: str) -> int:
        if not in_memory(shape):
            return 0
        lines = {line.name: line for line in self._computations[name]}
        if root.operation == "tuple":
            return self._replaced(name, lines[root.operands[place]], 0, shape)
        if root.operation == "bitcast" and root.operands[0] in lines:
            return self._replaced(name, lines[root.operands[0]], place, shape)
        if root.operation == "dynamic-update-slice":
            return _part(lines[root.operands[1]].shape, shape)
        if root.operation == "fusion":
            inner = next(n for n in root.named if n in self._computations)
            return self._replaced(inner, self._computations[inner][-1], place, shape)
        return in_memory(shape)


def _part(part: str, whole: str) -> int:
    """Bytes of a part that is written into a whole which lies in memory."""
    return hlo.sum_of_bytes(part) if in_memory(whole) else 0
