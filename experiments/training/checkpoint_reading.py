"""Reading a checkpoint: what is in it is verified, compared with what is wanted, and placed.

See `checkpoint_file.py` for what is in a file, and `checkpoints.py` for which of them is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import ConfigError
from experiments.training import checkpoint_file, checkpoint_manager
from experiments.training.checkpoint_file import DamagedError

CHOICES = "choose another --workdir, or the config as it was."


class Restored(NamedTuple):
    """What a checkpoint held: the step, the state, and the data iterator's own state."""

    step: int
    state: Any
    data: dict[str, Any]


def read_state(folder: Path, step: int, like: Any, belongs_to: Mapping[str, Any]) -> Restored:
    """The checkpoint of a step, bit for bit as it was saved.

    Args:
      folder: of the checkpoints.
      step: which of them.
      like: a tree of arrays, or of ShapeDtypeStructs, that says how and where they are wanted.
      belongs_to: what it must have been saved with.

    Raises:
      DamagedError: a file is missing or is not as it was written.
      ConfigError: it belongs to another config, or its arrays are not those of `like`.
    """
    about, leaves = _about(folder, step), named(like)
    _check_config(folder, about["belongs_to"], belongs_to)
    _check_leaves(folder, about["leaves"], described(leaves))
    values = _values(folder, step, about)
    placed = [_place(values[name], leaf) for name, leaf in leaves.items()]
    state = jax.tree.unflatten(jax.tree.structure(like), placed)
    return Restored(step, jax.block_until_ready(state), about["data"])


def read_score(folder: Path, step: int) -> float | None:
    """The score that a checkpoint was saved with; DamagedError if it cannot be told."""
    return _about(folder, step)["score"]


def read_arrays(folder: Path, step: int) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by name, whatever its config.

    Raises:
      OSError: it is damaged.
      ConfigError: another version has written it.
    """
    try:
        return _values(folder, step, _about(folder, step))
    except DamagedError as error:
        raise OSError(f"The checkpoint of step {step} in {folder} is damaged ({error}).") from None


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, such as `.params['kernel']`."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def described(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Dtype and shape of each, such as `float32[8, 6]`."""
    return {name: f"{leaf.dtype.name}{list(leaf.shape)}" for name, leaf in leaves.items()}


def _about(folder: Path, step: int) -> dict[str, Any]:
    file = checkpoint_manager.file(folder, step, 0)
    older = file.with_suffix(".bin")
    if older.exists() and not file.exists():
        raise ConfigError(
            f"{folder} holds checkpoints of an older version ({older.name}), which this one cannot "
            "read: choose another --workdir, or delete that folder and its runs' lines in "
            "runs.jsonl, and they are trained again."
        )
    return checkpoint_file.read_about(file)


def _values(folder: Path, step: int, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, from the files of all processes that wrote it."""
    files = [checkpoint_manager.file(folder, step, i) for i in range(about["processes"])]
    pieces = [piece for file in files for piece in checkpoint_file.read(file)]
    shapes = {name: _shape(text) for name, text in about["leaves"].items()}
    return checkpoint_file.whole(pieces, shapes)


def _shape(text: str) -> tuple[int, ...]:
    """The shape in what `described` made of an array."""
    return tuple(json.loads(text[text.index("[") :]))


def _check_config(folder: Path, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = _changed(_flat(stored), _flat(now))
    if changed:
        raise ConfigError(
            f"{folder} holds checkpoints of another config ({', '.join(changed)}): {CHOICES}"
        )


def _check_leaves(folder: Path, stored: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = _changed(stored, now)
    if changed:
        raise ConfigError(
            f"{folder} holds checkpoints of another network, loss or optimizer "
            f"(state{changed[0]}): {CHOICES}"
        )


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {name: repr(value)}
    inner = [_flat(value[key], f"{name}.{key}" if name else key) for key in value]
    return {key: text for entries in inner for key, text in entries.items()}


def _changed(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: {was.get(name, 'nothing')}, now {now.get(name, 'nothing')}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]


def _place(value: np.ndarray, like: Any) -> jax.Array:
    """The array where `like` is; one that is bound to no device stays so."""
    if like.sharding is None or not getattr(like, "committed", True):
        return jax.device_put(value)
    return jax.make_array_from_callback(value.shape, like.sharding, lambda index: value[index])
