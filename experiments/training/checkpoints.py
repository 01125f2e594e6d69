"""Checkpoints: Orbax writes them in the background, all or nothing; here they are verified.

See `orbax_manager.py` for how they are written, and `leaf_files.py` for what is in a file.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments import ConfigError
from experiments.training import checkpoint_file as leaf_files
from experiments.training import checkpoint_manager as orbax_manager
from experiments.training.checkpoint_file import DamagedError

STEP = re.compile(r"(\d+)(\.orbax-checkpoint-tmp.*)?")


class Restored(NamedTuple):
    """What a checkpoint held: the step, the state, and the data iterator's own state."""

    step: int
    state: Any
    data: dict[str, Any]


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
        self._policy = orbax_manager.LastAndBest(keep, {})
        self._saving: int | None = None
        self._manager = orbax_manager.manager(self._folder, self._policy)
        self._read_scores()

    def _read_scores(self) -> None:
        for step in self._manager.all_steps():
            with contextlib.suppress(DamagedError, OSError):
                self._policy.note(step, leaf_files.read_about(self._file(step, 0))["score"])

    def _file(self, step: int, process: int) -> Path:
        return orbax_manager.file(self._folder, step, process)

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
        about = leaf_files.read_about(self._file(step, 0))
        self._check_config(about["belongs_to"])
        leaves = _leaves(like)
        self._check_leaves(about["leaves"], _described(leaves))
        values = _values(self._folder, step, about)
        placed = [_place(values[name], leaf) for name, leaf in leaves.items()]
        state = jax.tree.unflatten(jax.tree.structure(like), placed)
        return Restored(step, jax.block_until_ready(state), about["data"])

    def _check_config(self, stored: Mapping[str, Any]) -> None:
        changed = _changed(_flat(stored), _flat(self._belongs_to))
        if changed:
            raise ConfigError(
                f"{self._folder} holds checkpoints of another config ({', '.join(changed)}): "
                "choose another --workdir, or the config as it was."
            )

    def _check_leaves(self, stored: Mapping[str, str], now: Mapping[str, str]) -> None:
        changed = _changed(stored, now)
        if changed:
            raise ConfigError(
                f"{self._folder} holds checkpoints of another network, loss or optimizer "
                f"(state{changed[0]}): choose another --workdir, or the config as it was."
            )

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
        self._manager = orbax_manager.manager(self._folder, self._policy)

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
        leaves = _leaves(state)
        about = {
            "score": None if score is None else float(score),
            "processes": jax.process_count(),
            "belongs_to": self._belongs_to,
            "data": json.loads(json.dumps(dict(data))),  # the iterator goes on
            "leaves": _described(leaves),
        }
        self._saving = step
        with self._failure():
            orbax_manager.save(self._manager, step, about, leaf_files.local(leaves))

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


def arrays(folder: Path, step: int) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name, whatever its config; OSError if it is damaged."""
    try:
        about = leaf_files.read_about(orbax_manager.file(folder, step, 0))
        return _values(folder, step, about)
    except DamagedError as error:
        raise OSError(f"The checkpoint of step {step} in {folder} is damaged ({error}).") from None


def _values(folder: Path, step: int, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, from the files of all processes that wrote it."""
    files = [orbax_manager.file(folder, step, i) for i in range(about["processes"])]
    pieces = [piece for file in files for piece in leaf_files.read(file)]
    shapes = {name: _shape(text) for name, text in about["leaves"].items()}
    return leaf_files.whole(pieces, shapes)


def _shape(described: str) -> tuple[int, ...]:
    """The shape in what `_described` made of an array."""
    return tuple(json.loads(described[described.index("[") :]))


def _leaves(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _described(leaves: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"{leaf.dtype.name}{list(leaf.shape)}" for name, leaf in leaves.items()}


def _place(value: np.ndarray, like: Any) -> jax.Array:
    """The array where `like` is; one that is bound to no device stays so."""
    if like.sharding is None or not getattr(like, "committed", True):
        return jax.device_put(value)
    return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {name: repr(value)}
    inner = [_flat(value[key], f"{name}.{key}" if name else key) for key in value]
    return {key: text for entries in inner for key, text in entries.items()}


def _changed(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: {was.get(name, 'nothing')}, now {now.get(name, 'nothing')}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]


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
