"""The checkpoints of a folder: saved in the background, all or nothing; damaged ones put aside.

See `checkpoint_manager.py` for how Orbax is made to write them, `checkpoint_reading.py` for how
they are read and verified, and `checkpoint_file.py` for what is in a file.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments import ConfigError
from experiments.training import checkpoint_file, checkpoint_manager, checkpoint_reading
from experiments.training.checkpoint_file import DamagedError
from experiments.training.checkpoint_reading import Restored

STEP = re.compile(r"(\d+)(\.orbax-checkpoint-tmp.*)?")


class Checkpoints:
    """The checkpoints in a folder: the last few and the best.

    All processes call the same methods in the same order; only the first of them says anything.

    Example:
      with Checkpoints(folder, keep=2, belongs_to=config) as checkpoints:
          restored = checkpoints.restore(state)
          ...
          checkpoints.save(100, state, {"epoch": 4}, score=0.9)
    """

    def __init__(self, folder: Path, *, keep: int, belongs_to: Mapping[str, Any]) -> None:
        """Opens the folder, or makes it.

        Args:
          folder: a folder of its own.
          keep: how many of the last checkpoints are kept; the one with the highest score is too.
          belongs_to: JSON; what must be the same when a checkpoint is restored.
        """
        self._folder = Path(folder).absolute()
        self._belongs_to = json.loads(json.dumps(dict(belongs_to)))
        self._policy = checkpoint_manager.LastAndBest(keep, {})
        self._saving: int | None = None
        self._manager = checkpoint_manager.manager(self._folder, self._policy)
        self._read_scores()

    def _read_scores(self) -> None:
        for step in self._manager.all_steps():
            with contextlib.suppress(DamagedError, ConfigError, OSError):  # `restore` says so
                self._policy.note(step, checkpoint_reading.read_score(self._folder, step))

    def restore(self, like: Any) -> Restored | None:
        """The newest checkpoint that is whole, or None; damaged ones are named and put aside.

        Args:
          like: a tree of arrays, or of ShapeDtypeStructs, with the shapes, dtypes and shardings
            that are wanted.

        Raises:
          ConfigError: it belongs to another config, or its arrays are not those of `like`.
        """
        damaged: dict[int, str] = {}
        restored = None
        while restored is None and (step := self._newest(damaged)) >= 0:
            reason = None
            try:
                restored = self._read(step, like)
            except (DamagedError, OSError) as error:
                reason = str(error)
            if not _all_processes(reason is None):
                restored, damaged[step] = None, reason or "another process could not read it"
        self._put_aside(damaged, restored)
        return restored

    def _newest(self, damaged: Mapping[int, str]) -> int:
        """The newest step that has not been found damaged, and -1 where there is none."""
        steps = {int(match[1]) for match in self._folders()} - damaged.keys()
        return _first_process(max(steps, default=-1))

    def _folders(self) -> list[re.Match[str]]:
        names = (path.name for path in self._folder.iterdir())
        return [match for name in names if (match := STEP.fullmatch(name))]

    def _read(self, step: int, like: Any) -> Restored:
        if step not in self._manager.all_steps():
            raise DamagedError("its writing was interrupted")
        return checkpoint_reading.read_state(self._folder, step, like, self._belongs_to)

    def _put_aside(self, damaged: Mapping[int, str], restored: Restored | None) -> None:
        """Says which are damaged, and makes room for those steps to be saved again."""
        onward = f"going on from step {restored.step}" if restored else "starting over"
        if jax.process_index() == 0:
            for step, reason in damaged.items():
                print(
                    f"The checkpoint of step {step} in {self._folder} is damaged ({reason}): "
                    f"{onward}.",
                    file=sys.stderr,
                )
            self._tidy(damaged)
        _all_processes(True)
        self._manager.close()
        self._manager = checkpoint_manager.manager(self._folder, self._policy)

    def _tidy(self, damaged: Mapping[int, str]) -> None:
        finished = set(self._manager.all_steps()) - damaged.keys()
        for match in self._folders():
            path, step = self._folder / match[0], int(match[1])
            if match[2] or step not in finished | damaged.keys():  # a save or removal was cut off
                shutil.rmtree(path)
            elif step in damaged:
                aside = path.with_name(f"{step}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)

    def save(
        self, step: int, state: Any, data: Mapping[str, Any], *, score: float | None = None
    ) -> None:
        """Returns as soon as `state` is copied, and writes in the background.

        Args:
          step: nothing happens if it is saved already.
          state: a tree of arrays.
          data: JSON, the data iterator's own state.
          score: the checkpoint with the highest one is kept.

        Raises:
          OSError: this checkpoint, or the one before, cannot be written.
        """
        if step in self._manager.all_steps():
            return
        self.wait()
        self._policy.note(step, score)
        leaves = checkpoint_reading.named(state)
        about = {
            "score": None if score is None else float(score),
            "processes": jax.process_count(),
            "belongs_to": self._belongs_to,
            "data": json.loads(json.dumps(dict(data))),  # the iterator goes on
            "leaves": checkpoint_reading.described(leaves),
        }
        self._saving = step
        with self._failure():
            checkpoint_manager.save(self._manager, step, about, checkpoint_file.local(leaves))

    def wait(self) -> None:
        """Returns when the last checkpoint is on the disk; OSError if it cannot be written."""
        with self._failure():
            self._manager.wait_until_finished()
        self._saving = None

    def close(self) -> None:
        """Waits, and ends the threads; OSError if the last checkpoint cannot be written."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # said already
                self._manager.close()
            if jax.process_index() == 0:
                for match in self._folders():
                    if match[2]:  # what there is of a checkpoint that failed takes up space
                        shutil.rmtree(self._folder / match[0], ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _failure(self) -> Iterator[None]:
        """Turns an error of the writing threads, which is raised again and again, into one."""
        try:
            yield
        except Exception as error:
            step, self._saving = self._saving, None
            if step is None:
                return
            cause = _os_error(error)
            if cause is None:
                raise
            raise OSError(self._sentence(step, cause)) from None

    def _sentence(self, step: int, cause: OSError) -> str:
        last = max((int(m[1]) for m in self._folders() if not m[2]), default=None)
        onward = "starts over" if last is None else f"goes on from step {last}"
        return (
            f"The checkpoint of step {step} cannot be written to {self._folder} "
            f"({cause.strerror or cause}): make room there, and start the same command again, "
            f"which {onward}."
        )


def _os_error(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _first_process(value: int) -> int:
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _all_processes(true: bool) -> bool:
    if jax.process_count() == 1:
        return true
    return bool(np.all(multihost_utils.process_allgather(np.bool_(true))))
