"""The network and the images that signed copies are made of, and how they are made."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import regjax as rj
from experiments import ConfigError, is_number
from experiments.runs import load
from experiments.runs.load import Predictor, Trained
from experiments.runs.problem import Problem
from experiments.training.memory import Memory

LEVELS = 255  # the largest grey level; all numbers of a recipe are in these units
MEASURES = ("distance", "negative", "growth", "correct")

Move = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How images are moved, see `rj.signed`; pixels are grey levels from 0 to 255.

    Attributes:
      iterations: the numbers of iterations, of each of which there is a copy of every image.
      step: the step.
      at: where gradients are taken.
      momentum: the share of the last move that is added to the next.
      normalize: what gradients are divided by.
      reduce: "sum" or "mean" of the features.
      clip: the bounds of pixels.
      delta: whether the moves are kept, in place of the images that were moved.
    """

    iterations: tuple[int, ...] = (50, 100)
    step: float = 1.0
    at: str = "iterate"
    momentum: float = 0.0
    normalize: str | None = None
    reduce: str = "sum"
    clip: tuple[float, float] | str | None = None
    delta: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError for what `rj.signed` refuses."""
        for name in ("step", "momentum"):
            if not is_number(getattr(self, name)):
                raise ConfigError(f"--{name} must be finite, but it is {getattr(self, name)}.")
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"--momentum={self.momentum:g} must be a share of the last move, from 0 to below 1."
            )
        pixel = rj.from_function(lambda _, x: (x, x), (), head=lambda _: (jnp.eye(1), None))
        try:
            jax.eval_shape(functools.partial(self.signed, pixel), jnp.zeros((1, 1)))
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error)) from None
        if len({*self.iterations}) < len(self.iterations):
            raise ConfigError(f"--iterations are each named once, not {list(self.iterations)}.")
        if self.delta and len(self.iterations) > 1:
            raise ConfigError(
                "--delta keeps one move of every image: name one number of --iterations, such as 1."
            )
        if self.delta and (self.iterations == (0,) or not self.step):
            raise ConfigError(
                "--delta keeps moves, but without --iterations or with --step=0 there are none: "
                "leave these out, or name larger ones."
            )

    def signed(self, forward: rj.Forward, grey: jax.Array) -> rj.Signed:
        """The images before they are moved, and then after each number of iterations."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del given["delta"]
        return rj.signed(forward, grey, **given | {"iterations": (0, *self.iterations)})


class Source(NamedTuple):
    """A trained network, and the images of its run.

    Attributes:
      predictor: the network.
      about: what is known of it, as JSON.
      stored: all images and labels, as the data set has them, `[N, ...]`.
      splits: the places of each split's examples in these, int [n].
      keys: what a config with the run's entries calls images and labels.
    """

    predictor: Predictor
    about: dict[str, Any]
    stored: Mapping[str, Any]
    splits: dict[str, np.ndarray]
    keys: tuple[str, str] = ("image", "label")


def open_source(
    workdir: str | os.PathLike[str],
    method: str,
    *,
    train_size: int | None = None,
    strength: float | None = None,
    seed: int = 0,
    everything: bool = False,
) -> Source:
    """A trained network out of a work folder, with the images that it was trained and scored on.

    Args:
      workdir: as all but the last argument in `load.load`.
      method: of the run.
      train_size: of the run.
      strength: of the run.
      seed: of the run.
      everything: whether all training images are meant, not only those that the run was trained on.

    Returns:
      A `Source` of the splits "train", then that to score, then "validation" if the run had one of
      the data set's own.

    Raises:
      ConfigError: the data are a stream, or masks.
      ValueError: as in `load.load`.
      OSError: the data set is missing.

    Example:
      `open_source("runs/digits", "baseline", train_size=20)`
    """
    found = load.trained(workdir, method, train_size=train_size, strength=strength, seed=seed)
    if found.config["data"] != "memory":
        raise ConfigError(
            f"{workdir} is of a stream, whose crops are drawn anew each time: copies are of images "
            "in memory (config.data='memory')."
        )
    if found.spec.example["label"].shape:
        raise ConfigError(f"{workdir} is of masks: copies are of images that have one class each.")
    predictor = load.predictor(found)
    # Copies are of the first data set's images, as they are stored.
    stored = {"joined": (), "equal_updates": False, "whiten": ""}
    problem = Problem({**found.config, **stored}, found.experiment)
    memory = problem.source
    assert isinstance(memory, Memory)
    if everything:
        train = np.arange(memory.images)
    else:
        train, _ = memory.indices(found.run.train_size, found.run.seed)
    splits = {"train": np.sort(train), found.spec.scored: memory.tests}
    if memory.validation is not None:
        splits["validation"] = memory.validation
    keys = found.config["image_key"], found.config["label_key"]
    return Source(predictor, _about(workdir, found, predictor, splits), memory.stored, splits, keys)


def move(source: Source, recipe: Recipe, batch: int) -> Move:
    """The compiled function of at most `batch` images `[B, H, W, K]`, as stored, and labels `[B]`.

    It runs on all devices and returns the copies `[B, K, H, W, K]`, float32 in units of 255 grey
    levels, or the moves in grey levels, and what is watched, `[B, 1 + K]`, of the images themselves
    and of each copy.
    """
    devices = jax.local_devices()
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("data",), auto, devices=devices)
    everywhere, split = PartitionSpec(), PartitionSpec("data")
    moved = functools.partial(_moved, recipe)
    mapped = jax.shard_map(
        moved, mesh=mesh, in_specs=(everywhere, split, split), out_specs=(split, split)
    )
    compiled = jax.jit(mapped)
    forward = source.predictor.network.after(_from_grey)
    whole = -(-batch // len(devices)) * len(devices)  # always, so that nothing is compiled again

    def call(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        filled = [np.resize(x, (whole, *x.shape[1:])) for x in (image, label)]
        copies, watched = jax.tree.map(np.asarray, compiled(forward, *filled))
        return copies[: len(image)], {name: x[: len(image)] for name, x in watched.items()}

    return call


def table(iterations: Sequence[int], measures: Mapping[str, Sequence[float]]) -> str:
    """What was watched while images were moved, as Markdown.

    Args:
      iterations: after which there are copies.
      measures: the means of `MEASURES`, of the images themselves and of each copy.
    """
    heads = ("images", "mean move (grey levels)", "below 0 (%)", "last gradient / first")
    rows = [(*heads, "source's accuracy (%)"), ("---",) * 5]
    for i, name in enumerate(["originals", *(f"{n} iterations" for n in iterations)]):
        distance, negative, growth, correct = (measures[m][i] for m in MEASURES)
        shown = f"{distance:.3g}", f"{100 * negative:.1f}", f"{growth:.3g}" if i else "-"
        rows.append((name, *shown, f"{100 * correct:.1f}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _moved(
    recipe: Recipe, forward: rj.Forward, image: jax.Array, label: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    floating = jnp.issubdtype(image.dtype, jnp.floating)
    found = recipe.signed(forward, image.astype(jnp.float32) * (LEVELS if floating else 1))
    logits = forward(found.image.reshape(-1, *image.shape[1:])).logits
    correct = jnp.argmax(logits, -1).reshape(found.growth.shape) == label[None]
    watched = (found.distance, found.negative, found.growth, correct)
    copies = found.delta if recipe.delta else found.image / LEVELS
    by_example = {n: x.T for n, x in zip(MEASURES, watched, strict=True)}
    return jnp.swapaxes(copies[1:], 0, 1), by_example


def _from_grey(image: jax.Array) -> jax.Array:
    return image / LEVELS


def _about(
    workdir: str | os.PathLike[str],
    found: Trained,
    predictor: Predictor,
    splits: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    run = dataclasses.asdict(found.run)
    network = predictor.network
    return {
        "workdir": os.fspath(workdir),
        **run,
        "steps": found.steps,
        "dataset": found.config["dataset"],
        "network": _digest(jax.tree.leaves((network.params, network.state))),
        "images": _digest(list(splits.values())),
    }


def _digest(arrays: list[Any]) -> str:
    """A short name of arrays' contents."""
    whole = hashlib.sha256()
    for array in map(np.asarray, arrays):
        whole.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return whole.hexdigest()[:16]
