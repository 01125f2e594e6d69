"""What training costs besides its steps: checkpoints, and steps that are dispatched one by one.

The pieces are those of `loop.py`, on random images. `tables.py` shows the tables.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import regjax as rj
from experiments.benchmark.timing import paired, random_data, random_task
from experiments.training.checkpoints import Checkpoints
from experiments.training.descent import Descent
from experiments.training.feeds import STEPS_PER_CALL
from experiments.training.parallel import Parallel
from experiments.training.record import Record
from experiments.training.sweep import stack
from experiments.training.task import Rows, gather

INTERVAL = 100  # steps between checkpoints
MOST_PERCENT = 2.0
LOSS = "cross_entropy"
SEEDS = np.zeros(1, np.uint32)


class Case(NamedTuple):
    """A network, its images `[batch, *shape]`, and what is timed: calls of the device, rounds."""

    model: str
    shape: tuple[int, int, int]
    batch: int
    calls: int
    rounds: int


# Where steps are long, a fifth of an interval is timed, and what it shows is divided by five.
CASES = (
    Case("small_cnn", (8, 8, 1), 50, 5, 25),
    Case("small_cnn", (32, 32, 3), 128, 1, 15),
    Case("resnet32", (32, 32, 3), 128, 1, 3),
)
QUICK_CASES = (Case("small_cnn", (4, 4, 1), 8, 1, 2),)

_COLUMNS = {"model": "s", "images": "s", "batch": "d", "step_ms": ".2f"}
TABLES = {
    "checkpoints": (
        f"A checkpoint every {INTERVAL} steps (percent: what it adds to their time, more than "
        f"{MOST_PERCENT:g} below `interval` steps; blocking: what training waits for; cpu: "
        "processor time of all threads, and what that adds to the steps')",
        _COLUMNS
        | {"percent": ".2f", "interval": "d"}
        | {"blocking_ms": ".1f", "cpu_ms": ".1f", "cpu_percent": ".2f", "megabytes": ".1f"},
    ),
    "dispatch": (
        f"{STEPS_PER_CALL} steps in one compiled loop, and dispatched one by one (ratio: how many "
        "times as long they take)",
        _COLUMNS | {"one_by_one_ms": ".2f", "ratio": ".2f"},
    ),
}


class Program:
    """The training of one network on all devices.

    Attributes:
      state: the state of the run, moved on by each timing.
    """

    def __init__(self, task: Descent, batch: int, steps: int = STEPS_PER_CALL) -> None:
        """Makes the state, and `steps` batches of random images that are on the devices."""
        data = random_data(4 * batch, task.example["image"].shape, task.classes)
        self._parallel, self._steps = Parallel(task, data, "jit"), steps
        self._run = (stack([rj.parse(LOSS)]), SEEDS)
        generator = np.random.default_rng(1)
        index = generator.integers(0, 4 * batch, (1, steps, batch)).astype(np.int32)
        self._rows = Rows(index, np.ones(index.shape, np.float32))
        stored = jax.tree.map(np.asarray, data)
        self._batches = [
            self._parallel.place(gather(stored, Rows(*each)))
            for each in zip(index[0], self._rows.weight[0], strict=True)
        ]
        self.state = self._parallel.init(*self._run)

    def call(self) -> float:
        """Seconds of the steps in one compiled loop."""
        start = time.perf_counter()
        self.state, *metrics = self._parallel.advance(
            self.state, *self._run, self._rows, self._steps
        )
        jax.tree.map(np.asarray, metrics)
        return time.perf_counter() - start

    def one_by_one(self) -> float:
        """Seconds of the same steps, each a call; their numbers are fetched at the end."""
        start, each = time.perf_counter(), []
        for batch in self._batches:
            self.state, metrics = self._parallel.step(self.state, *self._run, batch)
            each.append(metrics)
        jax.tree.map(np.asarray, each)
        return time.perf_counter() - start


class _Saving:
    """Training with and without checkpoints, in a folder."""

    def __init__(self, program: Program, calls: int, folder: Path) -> None:
        self._program, self._calls, self._folder = program, calls, folder / "checkpoints"
        self._checkpoints = Checkpoints(self._folder, keep=2, belongs_to={})
        label = {"method": "plain", "train_size": 0, "strength": None, "seed": 0}
        self._record = Record(folder, [label], 0)
        self._saves = 0
        self.blocked: list[float] = []

    def close(self) -> None:
        with self._record, self._checkpoints:
            pass

    def without(self) -> float:
        start = time.perf_counter()
        for _ in range(self._calls):
            self._program.call()
            self._record.record("train", 0, 0.0, {"total": 1.0})
        return time.perf_counter() - start

    def saved(self) -> float:
        """With a checkpoint that is written meanwhile, and what is left of it at the end."""
        start = time.perf_counter()
        self._save()
        self.blocked.append(time.perf_counter() - start)
        self.without()
        self._checkpoints.wait()
        return time.perf_counter() - start

    def alone(self) -> None:
        """A checkpoint without steps meanwhile."""
        self._save()
        self._checkpoints.wait()

    def _save(self) -> None:
        self._saves += 1
        self._record.sync()
        self._checkpoints.save(self._saves, self._program.state, {"feed": {}})

    def bytes(self) -> int:
        newest = self._folder / str(self._saves)
        return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())


def _processor(action: Callable[[], object]) -> float:
    """Median of the processor seconds, of all threads."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def costs(cases: tuple[Case, ...]) -> dict[str, Any]:
    """For "checkpoints" and "dispatch" a row for each case."""
    rows: dict[str, list[dict[str, Any]]] = {"checkpoints": [], "dispatch": []}
    for case in tqdm(cases, desc="training"):
        task = random_task(case.model, case.shape)
        program = Program(task, case.batch)
        about = case._asdict() | {"images": "x".join(map(str, case.shape))}
        rows["dispatch"].append(about | _dispatch(program, case))
        rows["checkpoints"].append(about | _checkpoints(program, case))
    return {name: {"rows": each} for name, each in rows.items()}


def _dispatch(program: Program, case: Case) -> dict[str, Any]:
    seconds, ratio = paired(program.call, program.one_by_one, case.rounds)
    step = 1e3 * seconds / STEPS_PER_CALL
    return {"step_ms": step, "one_by_one_ms": ratio * step, "ratio": ratio}


def _checkpoints(program: Program, case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        saving = _Saving(program, case.calls, Path(folder))
        seconds, ratio = paired(saving.without, saving.saved, case.rounds)
        checkpoint, busy = _processor(saving.alone), _processor(saving.without)
        size = saving.bytes()
        saving.close()
    steps = case.calls * STEPS_PER_CALL
    percent = 100 * (ratio - 1) * steps / INTERVAL
    return {
        "step_ms": 1e3 * seconds / steps,
        "percent": percent,
        "interval": max(math.ceil(INTERVAL * percent / MOST_PERCENT), 1),
        "blocking_ms": 1e3 * statistics.median(saving.blocked),
        "cpu_ms": 1e3 * checkpoint,
        "cpu_percent": 100 * checkpoint / busy * steps / INTERVAL,
        "megabytes": size / 1e6,
    }
