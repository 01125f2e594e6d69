"""Timings that a busy machine changes little."""

from __future__ import annotations

import statistics
from collections.abc import Callable


def paired(a: Callable[[], float], b: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Two timings in turn: the median of the first, and that of the ratio of second to first."""
    a(), b()
    pairs = [(a(), b()) for _ in range(rounds)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] / p[0] for p in pairs)
