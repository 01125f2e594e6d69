"""Orbax's checkpoint manager, made to write `checkpoint_file.py` and to keep the last and the best.

Orbax decides when a checkpoint is whole and where it is, removes old ones, and synchronises
processes. A step of a small network takes some milliseconds, and Orbax's own format, a store with
metadata for each array, would cost more than many of them.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.training import checkpoint_file

ITEM = "state"


def manager(folder: Path, policy: LastAndBest) -> ocp.CheckpointManager:
    """The manager of the folder, which it makes if need be; it reads none of the checkpoints."""
    logging.getLogger("absl").addFilter(_quiet)  # adding it again makes no difference
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            lightweight_initialize=True,
            # In the background, a folder that cannot be made is an error with much noise.
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
        ),
        item_names=(ITEM,),
        item_handlers={ITEM: _Handler()},
    )


def _quiet(record: logging.LogRecord) -> bool:
    """What matters of Orbax's log, `checkpoints.py` says in a sentence."""
    return "orbax" not in record.pathname


def save(
    manager: ocp.CheckpointManager,
    step: int,
    about: dict[str, Any],
    pieces: list[checkpoint_file.Piece],
) -> None:
    """Starts to write this process's pieces."""
    manager.save(step, args=ocp.args.Composite(**{ITEM: _Save(about, pieces)}), force=True)


def file(folder: Path, step: int, process: int) -> Path:
    """Where `save` writes."""
    return folder / str(step) / ITEM / _name(process)


def _name(process: int) -> str:
    return f"leaves_{process}.safetensors"


@dataclasses.dataclass
class LastAndBest:
    """A policy of Orbax's: keeps the last `keep` checkpoints, and the one with the best score."""

    keep: int
    scores: dict[int, float]

    def note(self, step: int, score: float | None) -> None:
        """Says how good the checkpoint of a step is, if that is known."""
        if score is not None and math.isfinite(score):
            self.scores[step] = score

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        """For each of the checkpoints, whether it is kept."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        scored = [step for step in steps if step in self.scores]
        best = max(scored, key=self.scores.__getitem__, default=None)
        return [step == best or step in steps[-self.keep :] for step in steps]


class _Handler(ocp.AsyncCheckpointHandler):
    """Writes in a thread, which Orbax waits for."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    async def async_save(self, directory: Path, args: _Save) -> list[Any]:
        path = Path(directory, _name(jax.process_index()))
        return [self._thread.submit(checkpoint_file.write, path, args.about, args.pieces)]

    def save(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("only in the background")

    def restore(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError("Checkpoints.restore reads the files itself, and verifies them")

    def close(self) -> None:
        self._thread.shutdown()


@ocp.args.register_with_handler(_Handler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _Save(ocp.args.CheckpointArgs):
    about: dict[str, Any]
    pieces: list[checkpoint_file.Piece]
