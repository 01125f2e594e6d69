"""An array that is written to a file row by row, and goes on where it was left."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


class ArrayFile:
    """An array of known shape in the making, `NAME.npy.part`, and `NAME.npy` once it is whole.

    What is written lies in the file at once, and nothing of it stays in memory.

    Attributes:
      path: the path of the whole file.
      dtype: the type of its numbers.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> None:
        """Describes the file; nothing is opened yet."""
        self.path, self._shape, self.dtype = path, shape, np.dtype(dtype)
        self._row = math.prod(shape[1:]) * self.dtype.itemsize

    @property
    def part(self) -> Path:
        """The file in the making."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def left(self) -> int:
        """About how many bytes are still to be written."""
        there = [p.stat().st_size for p in (self.path, self.part) if p.exists()]
        return max(0, self._shape[0] * self._row - max(there, default=0))

    def go_on(self, rows: int) -> None:
        """Makes the file, or leaves its first rows and nothing else; one that is whole stays.

        Raises:
          ValueError: it has fewer.
          OSError: it cannot be written.
        """
        if self.path.exists():
            return
        if not rows:
            self._make()
        begin = self._begin() if self.part.exists() else 0
        if not begin or self.part.stat().st_size < begin + rows * self._row:
            raise ValueError(
                f"{self.part} has fewer than the {rows} rows that were written: delete its folder."
            )
        os.truncate(self.part, begin + rows * self._row)

    def append(self, rows: np.ndarray) -> None:
        """Writes rows behind those that are there, to the disk; raises OSError where that fails."""
        with self.part.open("ab", buffering=0) as file:
            left = memoryview(np.ascontiguousarray(rows, self.dtype).tobytes())
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())

    def rows(self, at_once: int) -> Iterator[np.ndarray]:
        """Yields all rows, so many at once."""
        whole = np.load(self.part, mmap_mode="r")
        for first in range(0, len(whole), at_once):
            yield np.array(whole[first : first + at_once])

    def finish(self) -> None:
        """Gives the file its name, by which it is found."""
        if self.part.exists():
            self.part.replace(self.path)

    def _make(self) -> None:
        descr = np.lib.format.dtype_to_descr(self.dtype)
        header: dict[str, Any] = {"descr": descr, "fortran_order": False, "shape": self._shape}
        with self.part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)

    def _begin(self) -> int:
        with self.part.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return file.tell()


def write(path: Path, array: np.ndarray) -> None:
    """Writes a small array, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)
