"""From what a chip does in a step to its time, and what to change where it does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.pod.chips import Chip
from experiments.pod.program import Work

# Around a ring, a sum travels once to be made and once to be known; all else travels once.
_TRAVELS = {"all-reduce": 2}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Of a whole program, or of its temporaries, with what is given to it and changed in place.
_WANTED = re.compile(r"(?:Used |temporaries \()([\d.]+)([KMGT]?)i?B?(?: of|\) exceeds)")


def sending(work: Work, chip: Chip) -> float:
    """The least seconds that a chip's links take for what is sent."""
    each = (_TRAVELS.get(kind, 1) * size for kind, (_, size) in work.sent.items())
    return sum(each) / chip.links


def seconds(work: Work, chip: Chip) -> float:
    """The roofline's time of a step: each operation's products or memory, and what is sent.

    A bound from below: every operation at the chip's peak, nothing sent meanwhile.
    """
    return work.seconds + sending(work, chip)


def wanted(error: str) -> int | None:
    """Bytes on a chip that a program needs which the compiler refused for want of memory.

    Args:
      error: what the compiler said.

    Returns:
      The bytes; None where the error is another.

    Example:
      `wanted("Ran out of memory in memory space hbm. Used 33.3G of 15.75G hbm.")`
    """
    found = _WANTED.search(error) if "memory" in error else None
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def advice(
    config: Mapping[str, Any],
    parts: Mapping[str, int],
    total: int,
    chip: Chip,
    chips: int,
    classes: int,
) -> list[str]:
    """What to change so that less memory is needed, that which saves most first.

    Args:
      config: with all entries.
      parts: bytes on a chip by what they are, see `Planned`.
      total: bytes that the step needs on a chip.
      chip: which has too few.
      chips: how many there are.
      classes: C, of the data set.
    """
    rest = total - sum(parts.values())
    found = [
        *_statistics(config, parts["statistics"], chip, chips, classes),
        *_network(config, parts["network"] + parts["optimizer"], chips),
        *_batch(config, rest, chip.memory - sum(parts.values()), chips),
    ]
    if config["dtype"] == "float32" and rest > 0:
        found.append((rest / 2, "config.dtype='bfloat16'", "halves what the layers keep"))
    if parts["data"] > chip.memory / 10:
        found.append((parts["data"], "config.data='stream'", "keeps no images on the chips"))
    found.sort(key=lambda each: -each[0])
    return [f"{change} {effect}: {_gb(saved)} less." for saved, change, effect in found]


def _statistics(
    config: Mapping[str, Any], size: int, chip: Chip, chips: int, classes: int
) -> Iterator[tuple[float, str, str]]:
    if size < chip.memory / 20:
        return
    ways = (
        (parts, axis, fsdp)
        for fsdp in range(1, chips + 1)
        if chips % fsdp == 0
        for axis, parts in (("data", chips // fsdp), ("fsdp", fsdp))
        if classes % parts == 0
    )
    parts, axis, fsdp = max(ways, key=lambda way: (way[0], -way[2]))
    if parts > 1:
        change = f"config.parallelism='jit', config.fsdp={fsdp}, isda(..., axis_name={axis!r})"
        effect = f"splits the statistics of {classes} classes over {parts} chips"
        yield size * (1 - 1 / parts), change, effect


def _network(config: Mapping[str, Any], size: int, chips: int) -> Iterator[tuple[float, str, str]]:
    fsdp = config["fsdp"]
    if fsdp == chips:
        return
    change = f"config.parallelism='jit', config.fsdp={chips}"
    yield size * (1 - fsdp / chips), change, "splits the network and its optimizer"


def _batch(
    config: Mapping[str, Any], rest: int, room: float, chips: int
) -> Iterator[tuple[float, str, str]]:
    most, now = config["batch_size"] // chips, config["accumulate"]
    ways = [parts for parts in range(2 * now, most + 1, now) if most % parts == 0]
    if rest > 0 and ways:
        parts = next((n for n in ways if rest * now / n < room), ways[-1])
        effect = f"takes a batch in {parts} parts, one after the other"
        yield rest * (1 - now / parts), f"config.accumulate={parts}", effect


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
