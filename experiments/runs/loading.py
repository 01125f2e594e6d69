"""The networks that a comparison trained, to be used elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import regjax as rj
from experiments.runs import entries
from experiments.runs import folder as run_folder
from experiments.runs.problem import Problem
from experiments.training import checkpoints


def load(
    workdir: str | os.PathLike[str],
    method: str,
    *,
    train_size: int | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> rj.Forward:
    """A trained network out of a comparison's work folder.

    Args:
      workdir: the folder.
      method: one of the config's losses, by name.
      train_size: of the run; None where there is only one.
      strength: of the run; None where there is only one, or none.
      seed: of the run.

    Returns:
      The network with its trained parameters (their moving average, where the config has one) and
      BatchNorm's running averages: `load(...)(image).logits`, for normalised images. A finished
      run's last checkpoint, in float32; the config's data set must be there.

    Raises:
      ValueError: there is no such run, or several; says which there are.

    Example:
      `network = load("runs/digits", "db", train_size=20, strength=0.1)`
    """
    folder = run_folder.read(workdir)
    asked = {"method": method, "train_size": train_size, "strength": strength, "seed": seed}
    asked = {name: value for name, value in asked.items() if value is not None}
    found = [r for r in folder.records if all(r[name] == asked[name] for name in asked)]
    if len(found) != 1:
        names = ("method", "train_size", "strength", "seed")
        finished = "; ".join(", ".join(f"{n} {r[n]}" for n in names) for r in folder.records)
        raise ValueError(
            f"{workdir} holds {len(found)} finished runs with {asked}, but one is needed; finished "
            f"are: {finished or 'none'}."
        )
    (record,) = found
    if record.get("diverged") or "group" not in record:
        why = "it diverged" if record.get("diverged") else "it is of an older version"
        raise ValueError(f"{workdir} holds no trained network of {asked}: {why}.")
    # Wherever it was trained, here it is whole.
    config = ConfigDict(
        entries.complete(folder.config) | {"runs_at_once": 1, "fsdp": 1, "parallelism": ""}
    )
    stored = checkpoints.arrays(
        Path(workdir, "training", record["group"], "checkpoints"), record["steps"]
    )
    task, state = Problem(config).shapes(record["train_size"])

    def value(path: tuple[Any, ...], like: jax.ShapeDtypeStruct) -> jax.Array:
        array = stored[jax.tree_util.keystr(path)]
        # Of runs that were trained together, this one's.
        return jnp.asarray(array if array.shape == like.shape else array[record["place"]])

    state = jax.tree.map_with_path(value, state)
    params = state.params if state.average is None else state.average
    return task.network.replace(params=params, state=state.model_state).frozen()
