"""Named arrays in one file, each with a checksum, so that no damage goes unnoticed.

The first line is the CRC-32 of the header and the header, in JSON: what the caller says about the
arrays, and of each piece `[name, start, shape, dtype, CRC-32]`. Then follow their bytes. An array
that is spread over devices is stored as pieces, which are put together again when it is read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class DamagedError(ValueError):
    """A file that is missing, or is not as it was written."""


class Piece(NamedTuple):
    """A part of the array `name`; `start [ndim]` is where in it the part begins."""

    name: str
    start: tuple[int, ...]
    value: Any


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
        return [Piece(name, (0,) * leaf.ndim, leaf.addressable_data(0))] if mine else []
    return [
        Piece(name, tuple(part.start or 0 for part in shard.index), shard.data)
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    ]


def write(path: Path, about: Mapping[str, Any], pieces: Iterable[Piece]) -> None:
    """Writes the pieces, and `about` (JSON) beside them."""
    data = [_bytes(piece.value) for piece in pieces]
    entries = [
        (name, start, value.shape, value.dtype.name, zlib.crc32(bytes_))
        for (name, start, value), bytes_ in zip(pieces, data, strict=True)
    ]
    header = json.dumps({"about": about, "pieces": entries}).encode()
    with path.open("wb") as file:
        file.write(b"%08x %b\n" % (zlib.crc32(header), header))
        for bytes_ in data:
            file.write(bytes_)


def _bytes(value: np.ndarray) -> memoryview:
    return value.reshape(-1).view(np.uint8).data


def read_about(path: Path) -> dict[str, Any]:
    """What was written about the arrays; DamagedError where that cannot be relied upon."""
    with _opened(path) as file:
        return _header(path, file)["about"]


def read(path: Path) -> list[Piece]:
    """The pieces; DamagedError where one of them is not what was written."""
    with _opened(path) as file:
        entries = _header(path, file)["pieces"]
        return [_read_piece(path, file, *entry) for entry in entries]


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None


def _header(path: Path, file: BinaryIO) -> dict[str, Any]:
    checksum, _, header = file.readline().rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(header):
        raise DamagedError(f"the head of {path.name} is not what was written")
    return json.loads(header)


def _read_piece(
    path: Path,
    file: BinaryIO,
    name: str,
    start: list[int],
    shape: list[int],
    dtype: str,
    checksum: int,
) -> Piece:
    value = np.empty(shape, jnp.dtype(dtype))
    bytes_ = _bytes(value)
    if file.readinto(bytes_) < bytes_.nbytes:  # type: ignore[attr-defined]
        raise DamagedError(f"{path.name} is cut short")
    if zlib.crc32(bytes_) != checksum:
        raise DamagedError(f"{path.name} is not what was written")
    return Piece(name, tuple(start), value)


def whole(pieces: Iterable[Piece], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of those shapes from all of their pieces; DamagedError where one is missing."""
    values: dict[str, np.ndarray] = {}
    missing = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    for name, start, part in pieces:
        if part.shape == shapes[name]:
            values[name] = part
        else:
            value = values.setdefault(name, np.empty(shapes[name], part.dtype))
            value[tuple(slice(s, s + n) for s, n in zip(start, part.shape, strict=True))] = part
        missing[name] -= part.size
    if values.keys() != shapes.keys() or any(missing.values()):
        raise DamagedError("parts of its arrays are missing")
    return values
