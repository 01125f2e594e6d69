"""Experiments with regjax: networks are trained under many losses, tested, and compared."""

import contextlib
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

LARGEST = (2 - 2**-23) * 2.0**127  # the largest float32


_compiled_for: ContextVar[str] = ContextVar("compiled_for", default="")


def platform() -> str:
    """The platform that is compiled for, "cpu", "gpu" or "tpu": what forms are chosen by."""
    import jax  # not above: a config is read without it

    return _compiled_for.get() or jax.default_backend()


@contextlib.contextmanager
def compiled_for(name: str) -> Iterator[None]:
    """Traces for a platform, whatever the one that traces.

    Example:
      `with compiled_for("tpu"): program.lower(...)`
    """
    before = _compiled_for.set(name)
    try:
        yield
    finally:
        _compiled_for.reset(before)


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
