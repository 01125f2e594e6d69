"""Worker processes and threads that read ahead, by Grain."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

_THREADS = min(16, os.cpu_count() or 1)
_AHEAD = 2  # elements that each worker keeps ready


class Chunks:
    """The elements of a data source in order, read ahead.

    Args:
      source: gives a tuple of arrays for every number below its length; with workers it is pickled.
      first: number of the first element.
      workers: processes that read; 0 for threads in this one.
    """

    def __init__(self, source: Any, first: int, workers: int) -> None:
        self._workers = workers
        data = grain.MapDataset.source(source)[first:]
        self._open = [iter(_threads(data) if not workers else _processes(data, workers))]
        # At the interpreter's end too: a little later, Grain fails to end its processes.
        self._close = weakref.finalize(self, _close, self._open)

    def take(self, count: int) -> Sequence[np.ndarray]:
        """Joins the next `count` elements, part by part.

        Raises:
          OSError: if a worker process died.
          ValueError: after `close`.
        """
        if not self._open:
            raise ValueError("The stream is closed.")
        try:
            elements = [next(self._open[0]) for _ in range(count)]
        except RuntimeError as error:
            reason = str(error).split(".")[0]
            raise OSError(
                f"One of the {self._workers} processes that decode images died ({reason}), perhaps "
                "for lack of memory or of shared memory (/dev/shm): use fewer, or 0 for threads."
            ) from error
        # A copy: the workers' arrays are shared memory, which is not to outlive the iterator.
        return [np.concatenate([np.asarray(x) for x in p]) for p in zip(*elements, strict=True)]

    def close(self) -> None:
        """Ends the threads and processes."""
        self._close()


def _close(iterators: list[grain.DatasetIterator]) -> None:
    while iterators:
        iterators.pop().close()


def _threads(data: grain.MapDataset) -> grain.IterDataset:
    return data.to_iter_dataset(grain.ReadOptions(_THREADS, _AHEAD * _THREADS))


def _processes(data: grain.MapDataset, workers: int) -> grain.IterDataset:
    if not flags.FLAGS.is_parsed():  # outside absl's `app.run`, where Grain would fail
        flags.FLAGS.mark_as_parsed()
    each = data.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=_AHEAD)
    return each.mp_prefetch(options, _start_worker)


def _start_worker(index: int, count: int) -> None:
    """Leaves signals to the main process, and ends with it, in whatever way it ends."""
    del index, count
    # Ctrl-C and a cluster's SIGTERM go to all processes of a program at once, but only the main one
    # can save its work, and to do that it may need another batch.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
