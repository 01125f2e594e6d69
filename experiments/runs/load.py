"""The networks that a comparison trained, to be used elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import regjax as rj
from experiments.data.spec import Spec
from experiments.runs import about, entries, experiment, folder, imports, whitened
from experiments.runs.plan import Run
from experiments.runs.records import run_of
from experiments.training import checkpoint_reading


def load(
    workdir: str | os.PathLike[str],
    method: str,
    *,
    train_size: int | None = None,
    strength: float | None = None,
    seed: int = 0,
    part: str = "",
) -> rj.Forward:
    """A trained network out of a comparison's work folder, without its data set.

    Args:
      workdir: the folder.
      method: one of the config's losses, by name.
      train_size: of the run; None where there is only one.
      strength: of the run; None where there is only one, or none.
      seed: of the run.
      part: of the networks, where a run trains several.

    Returns:
      The network with its trained parameters (their moving average, where the config has one) and
      BatchNorm's running averages: `load(...)(image).logits`, for normalised images. A finished
      run's last checkpoint, in float32.

    Raises:
      ValueError: there is no such run, or several; says which there are. A module of its config is
        not where Python looks for modules.

    Example:
      `network = load("runs/digits", "db", train_size=20, strength=0.1)`
    """
    found = trained(workdir, method, train_size=train_size, strength=strength, seed=seed)
    return found.task.network(found.state, part)


class Predictor(NamedTuple):
    """A trained network behind its normalisation: a function of the images as they are stored.

    Attributes:
      network: the network, frozen, as a function of stored images.
      spec: the description of the data set that it was trained on.
    """

    network: rj.Forward
    spec: Spec

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[B, C]`, float32, of images `[B, H, W, K]`.

        Args:
          image: uint8, or floats in [0, 1], of the size that it was trained on.

        Raises:
          ValueError: they are of another size.
        """
        if image.ndim != 4 or tuple(image.shape[1:]) != tuple(self.spec.shape):
            raise ValueError(
                f"the network is of images [B, {', '.join(map(str, self.spec.shape))}], but these "
                f"are {list(image.shape)}."
            )
        return self.network(image).logits.astype(jnp.float32)


def load_predictor(
    workdir: str | os.PathLike[str],
    method: str,
    *,
    train_size: int | None = None,
    strength: float | None = None,
    seed: int = 0,
) -> Predictor:
    """A trained network with its normalisation, without its data set; arguments as in `load`.

    Returns:
      A function from images as they are stored, uint8 `[B, H, W, K]`, to logits `[B, C]`.

    Raises:
      ValueError: as in `load`; or what was trained is no network of images.

    Example:
      `predict = load_predictor("runs/digits", "db", train_size=20, strength=0.1)`, then
      `predict.spec.class_names[predict(image)[0].argmax()]`
    """
    found = trained(workdir, method, train_size=train_size, strength=strength, seed=seed)
    return predictor(found)


def predictor(found: Trained) -> Predictor:
    """The network of a run with its normalisation, as `load_predictor` returns it.

    Raises:
      ValueError: what was trained is no network of images.

    Example:
      `predictor(trained("runs/digits", "db"))`
    """
    task, state, spec = found.task, found.state, found.spec
    if not hasattr(task, "prepare"):
        raise ValueError("the run trained no network of images, which could be normalised.")
    network = task.network(state).frozen()
    return Predictor(network.after(lambda image: task.prepare(image).astype(task.dtype)), spec)


class Trained(NamedTuple):
    """A run, read back.

    Attributes:
      task: what was trained.
      state: its state, at its end or at an earlier checkpoint.
      spec: the description of its data set.
      loss: its loss as an expression.
      steps: the number of steps of the whole run.
      checkpoints: the steps of the checkpoints that were kept.
      config: the config of its folder, with all entries.
      experiment: what was trained, and on what.
      run: which of the config's runs it is.
    """

    task: Any
    state: Any
    spec: Spec
    loss: str
    steps: int
    checkpoints: tuple[int, ...]
    config: dict[str, Any]
    experiment: experiment.Experiment
    run: Run


def trained(
    workdir: str | os.PathLike[str],
    method: str,
    *,
    train_size: int | None = None,
    strength: float | None = None,
    seed: int = 0,
    step: int | None = None,
) -> Trained:
    """A run with its whole state, the loss's statistics too; arguments and errors as in `load`.

    Args:
      workdir: the folder.
      method: of the run.
      train_size: of the run.
      strength: of the run.
      seed: of the run.
      step: of the checkpoint; None for the last.

    Raises:
      ValueError: as in `load`; or there is no such checkpoint, and which there are.
    """
    found = folder.read(workdir)
    imports.load(found.config)
    asked = {"method": method, "train_size": train_size, "strength": strength, "seed": seed}
    record = _record(found, {name: value for name, value in asked.items() if value is not None})
    known = about.read(Path(workdir))
    if known.spec is None:
        raise ValueError(
            f"{workdir} does not say what images it was trained on ({about.FILE}): the same "
            "command that trained it writes that, without training again."
        )
    checkpoints = Path(workdir, "training", record["group"], "checkpoints")
    kept = tuple(sorted(int(each.name) for each in checkpoints.glob("*") if each.name.isdecimal()))
    at = record["steps"] if step is None else step
    if step is not None and step not in kept:
        raise ValueError(f"{checkpoints} holds no checkpoint of step {step}, but of {kept}.")
    stored = checkpoint_reading.read_arrays(checkpoints, at)
    kind = experiment.find(known.experiment)
    config = entries.complete(found.config)
    spec = known.spec._replace(zca=whitened.kept(config, Path(workdir)))
    # What it started from need not be there any more.
    task = kind.task({**config, "init_from": ""}, spec, record["steps"] / config["epochs"])
    state = jax.eval_shape(task.init, np.uint32(0), kind.parse(record["loss"]))

    def value(path: tuple[Any, ...], like: jax.ShapeDtypeStruct) -> jax.Array:
        array = stored[jax.tree_util.keystr(path)]
        # Of runs that were trained together, this one's.
        return jnp.asarray(array if array.shape == like.shape else array[record["place"]])

    state = jax.tree.map_with_path(value, state)
    run, steps = run_of(record), record["steps"]
    return Trained(task, state, spec, record["loss"], steps, kept, config, kind, run)


def _record(found: folder.RunFolder, asked: dict[str, Any]) -> Any:
    """The one finished run that is asked for."""
    mine = [r for r in found.records if all(r[name] == asked[name] for name in asked)]
    if len(mine) != 1:
        names = ("method", "train_size", "strength", "seed")
        finished = "; ".join(", ".join(f"{n} {r[n]}" for n in names) for r in found.records)
        raise ValueError(
            f"{found.name} holds {len(mine)} finished runs with {asked}, but one is needed; "
            f"finished are: {finished or 'none'}."
        )
    (record,) = mine
    if record.get("diverged") or "group" not in record:
        why = "it diverged" if record.get("diverged") else "it is of an older version"
        raise ValueError(f"{found.name} holds no trained network of {asked}: {why}.")
    return record
