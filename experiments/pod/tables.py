"""What was planned, as numbers for a file and as lines to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.pod import estimate
from experiments.pod.chips import Chip
from experiments.pod.planned import Planned
from experiments.pod.program import Work


def memory(compiled: Any) -> dict[str, int]:
    """Bytes of a program on each chip: arguments, what of its results is new, temporaries, itself.

    What is given away is counted once.
    """
    found = compiled.memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return {
        "arguments": found.argument_size_in_bytes,
        "results": results,
        "temporaries": found.temp_size_in_bytes,
        "program": found.generated_code_size_in_bytes,
    }


def row(planned: Planned, chip: Chip, found: Mapping[str, int], work: Work) -> dict[str, Any]:
    """What is known of a step that fits."""
    seconds = estimate.seconds(work, chip)
    return {
        "fits": True,
        "memory": dict(found),
        "total": sum(found.values()),
        "lies": planned.parts,
        "flops": work.flops,
        "bytes": work.bytes,
        "sent": {kind: {"count": n, "bytes": size} for kind, (n, size) in work.sent.items()},
        "seconds": {
            "products": work.flops / chip.peak,
            "memory": work.bytes / chip.bandwidth,
            "both": work.seconds,
            "sending": estimate.sending(work, chip),
            "step": seconds,
        },
        "images_per_second": planned.batch / seconds,
    }


def text(row: Mapping[str, Any], chip: Chip, plain: Mapping[str, Any] | None) -> str:
    """The lines of one step; `plain` is the row that it is a multiple of, or None."""
    lies = ", ".join(f"{name} {_size(size)}" for name, size in row["lies"].items() if size)
    lines = [
        f"  {'fits' if row['fits'] else 'does not fit'}: {_size(row['total'])} of "
        f"{_size(chip.memory)} on each chip, of which lie there between steps: {lies}"
    ]
    if row["fits"]:
        sent = ", ".join(
            f"{each['count']} {kind} of {_size(each['bytes'])}"
            for kind, each in row["sent"].items()
        )
        ms = {name: f"{1e3 * value:.3g}" for name, value in row["seconds"].items()}
        parts = ", ".join(f"{n} {_size(size)}" for n, size in row["memory"].items())
        lines += [
            f"  in the step: {parts}",
            f"  each chip computes {row['flops'] / 1e9:.4g} GFLOP, reads and writes "
            f"{_size(row['bytes'])} and sends {sent or 'nothing'}",
            f"  at least {ms['step']} ms a step (products {ms['products']}, memory {ms['memory']}, "
            f"the longer of both in each operation {ms['both']}, sending {ms['sending']}), so at "
            f"most {row['images_per_second']:,.0f} images/s",
        ]
    lines += [f"  {each}" for each in row["advice"]]
    if plain and plain["fits"] and row["fits"] and plain is not row:
        times = {name: row[name] / plain[name] for name in ("flops", "bytes", "total")}
        slower = row["seconds"]["step"] / plain["seconds"]["step"]
        lines.append(
            f"  {times['flops']:.2f} times {plain['method']}'s FLOPs, {times['bytes']:.2f} its "
            f"bytes, {times['total']:.2f} its memory, {slower:.2f} its time"
        )
    return "\n".join([f"{row['method']} ({row['loss']})", *lines])


def _size(bytes_: float) -> str:
    unit, name = (1e9, "GB") if bytes_ >= 1e9 else (1e6, "MB")
    return f"{bytes_ / unit:.2f} {name}"
