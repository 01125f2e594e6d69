"""The format of a checkpoint: named arrays in a safetensors file, where no damage goes unnoticed.

`safetensors.numpy.load_file` reads the arrays anywhere. The file's metadata has what the caller
says about them, a checksum (CRC-32) of each array, and one of the metadata. An array that is spread
over devices is stored in pieces, which are put together again when it is read.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

SYSTEM_ERROR = re.compile(r"os error (\d+)")


class DamagedError(ValueError):
    """A file that is missing, or is not as it was written."""


class Piece(NamedTuple):
    """A part of the array `name`.

    Attributes:
      name: the array's name.
      start: the place in the array where the part begins, `[ndim]`; None for a whole array.
      value: the part.
    """

    name: str
    start: tuple[int, ...] | None
    value: Any

    @property
    def key(self) -> str:
        """What it is called in the file: whole arrays by their name, parts also by their start."""
        return self.name if self.start is None else f"{self.name}@{','.join(map(str, self.start))}"


def local(leaves: Mapping[str, Any]) -> list[Piece]:
    """Host copies of those parts of the arrays that this process has to write.

    A copy even where the host can look at the device's memory, which the next step wants to reuse.
    """
    pieces = [piece for name, leaf in leaves.items() for piece in _pieces(name, leaf)]
    for piece in pieces:
        piece.value.copy_to_host_async()
    return [piece._replace(value=np.array(piece.value, order="C")) for piece in pieces]


def _pieces(name: str, leaf: jax.Array) -> Iterable[Piece]:
    if leaf.is_fully_replicated:
        mine = jax.process_index() == 0
        return [Piece(name, None, leaf.addressable_data(0))] if mine else []
    return [
        Piece(name, tuple(part.start or 0 for part in shard.index), shard.data)
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    ]


def write(path: Path, about: Mapping[str, Any], pieces: Iterable[Piece]) -> None:
    """Writes the pieces, and `about` (JSON) beside them; OSError if that cannot be done."""
    values = {piece.key: piece for piece in pieces}
    entries = {key: (p.name, p.start, *_signs(p.value)) for key, p in values.items()}
    text = json.dumps({"about": about, "pieces": entries})
    metadata = {"regjax": text, "crc32": str(zlib.crc32(text.encode()))}
    path.touch()
    mode = path.stat().st_mode
    path.unlink()  # a file that takes another one's place waits for the disk
    try:
        save_file({key: piece.value for key, piece in values.items()}, path, metadata)
        path.chmod(mode)  # the package lets nobody but the owner read what it writes
    except SafetensorError as error:  # it has no number, by which callers tell a full disk
        number = SYSTEM_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def _signs(value: np.ndarray) -> tuple[str, list[int], int]:
    """By which an array is recognised: dtype, shape and checksum of the bytes."""
    return value.dtype.name, list(value.shape), zlib.crc32(value.reshape(-1).view(np.uint8).data)


def read_about(path: Path) -> dict[str, Any]:
    """What was written about the arrays; DamagedError where that cannot be relied upon."""
    return _read(path, arrays=False)[0]["about"]


def read(path: Path) -> list[Piece]:
    """The pieces; DamagedError where one of them is not what was written."""
    stored, values = _read(path, arrays=True)
    entries = stored["pieces"]
    if entries.keys() != values.keys():
        raise _damaged(path)
    return [_checked(path, values[key], *entry) for key, entry in entries.items()]


def _read(path: Path, *, arrays: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            values = file.get_tensors() if arrays else {}
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    except SafetensorError:
        raise _damaged(path) from None
    text = metadata.get("regjax", "")
    if metadata.get("crc32") != str(zlib.crc32(text.encode())):
        raise _damaged(path)
    return json.loads(text), values


def _checked(
    path: Path, value: np.ndarray, name: str, start: list[int] | None, *signs: Any
) -> Piece:
    if _signs(value) != signs:
        raise _damaged(path)
    return Piece(name, None if start is None else tuple(start), value)


def _damaged(path: Path) -> DamagedError:
    return DamagedError(f"{path.name} is not what was written")


def whole(pieces: Iterable[Piece], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of those shapes from all of their pieces; DamagedError where one is missing."""
    values: dict[str, np.ndarray] = {}
    missing = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    for name, start, part in pieces:
        if start is None:
            values[name] = part
        else:
            value = values.setdefault(name, np.empty(shapes[name], part.dtype))
            value[tuple(slice(s, s + n) for s, n in zip(start, part.shape, strict=True))] = part
        missing[name] -= part.size
    if values.keys() != shapes.keys() or any(missing.values()):
        raise DamagedError("parts of its arrays are missing")
    return values
