"""SIGTERM and Ctrl-C as a wish to stop, which the train loop grants where nothing is lost."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedError(Exception):
    """The training was stopped by a signal, after all was saved."""

    def __init__(self, number: int, step: int) -> None:
        """Of the signal, and the step at which it was heard."""
        super().__init__(number, step)
        self.number, self.step = number, step


class Interruption:
    """Notes the first signal in `received`; the second ends the process at once.

    A context manager, to be used in the main thread.
    """

    def __init__(self) -> None:
        """Nothing has been received yet."""
        self.received = 0

    def __enter__(self) -> Interruption:
        """Takes over the signals."""
        self._before: dict[int, Any] = {n: signal.signal(n, self._note) for n in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Gives them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number
