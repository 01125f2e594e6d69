"""Experiments with regjax: networks are trained under many losses, tested, and compared."""

from typing import Any

LARGEST = (2 - 2**-23) * 2.0**127  # the largest float32


class ConfigError(ValueError):
    """A config that cannot be run, in one sentence."""


def is_number(value: Any) -> bool:
    """Whether it is an int or a float that float32 can hold."""
    is_bool = isinstance(value, bool)
    return isinstance(value, int | float) and not is_bool and abs(value) <= LARGEST
