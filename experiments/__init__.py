"""Experiments with regjax: networks are trained under many losses, tested, and compared."""

import traceback
from pathlib import Path
from typing import Any

LARGEST = (2 - 2**-23) * 2.0**127  # the largest float32


class ConfigError(ValueError):
    """A config that cannot be run, in one sentence."""


def is_number(value: Any) -> bool:
    """Whether it is an int or a float that float32 can hold."""
    is_bool = isinstance(value, bool)
    return isinstance(value, int | float) and not is_bool and abs(value) <= LARGEST


def said(error: BaseException) -> str:
    """What an error of somebody's own code says, and where, without a full stop.

    Example:
      `"NameError: name 'y' is not defined (my_models.py, line 7)"`
    """
    text = (str(error).splitlines() or [""])[0].rstrip(".")
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    return (
        f"{what} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else what
    )
