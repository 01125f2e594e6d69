"""Signals that wish for a stop, which the train loop grants where nothing is lost.

Ctrl-C and SIGTERM; SIGHUP of a terminal that closes; SIGUSR1 and SIGUSR2, with which schedulers
such as Slurm announce the end of a job's time.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


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
        """Takes over the signals, but for those that are ignored, as under `nohup`."""
        heard = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        self._before: dict[int, Any] = {n: signal.signal(n, self._note) for n in heard}
        return self

    def __exit__(self, *_: object) -> None:
        """Gives them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number
