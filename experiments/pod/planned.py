"""A config's training step, compiled for devices that are not there; nothing of it is computed.

The program is that of training: `Parallel`'s step on a stream, or its loop over data in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import regjax as rj
from experiments import ConfigError
from experiments.data import whitening
from experiments.pod.shapes import Shapes, spec
from experiments.runs import class_weights, entry_values, problem
from experiments.runs.experiment import Experiment
from experiments.runs.plan import Run
from experiments.training import feeds
from experiments.training.parallel import Parallel
from experiments.training.sweep import stack
from experiments.training.task import Rows, TrainState, blank

Config = Mapping[str, Any]


class Planned(NamedTuple):
    """A step that is ready to be compiled.

    Attributes:
      lowered: the program.
      batch: images in a step, over all chips.
      parts: bytes that lie on each chip between steps, by what they are.
      kept: classes whose statistics a chip keeps.
      mixed: whether labels may be mixtures of classes.
    """

    lowered: jax.stages.Lowered
    batch: int
    parts: dict[str, int]
    kept: int
    mixed: bool


def check(config: Config, chips: int) -> None:
    """Looks whether a config is of runs that are spread over so many chips.

    Raises:
      ConfigError: it is not.
    """
    if entry_values.runs_at_once(config) > 1:
        raise ConfigError(
            f"config.runs_at_once is {config['runs_at_once']}, which trains each run on one chip: "
            "set it to 1 to spread a run over all chips."
        )
    if config["parallelism"] == "pmap":
        raise ConfigError(
            "config.parallelism='pmap' cannot be compiled ahead of time: 'shard_map' sends the "
            "same."
        )
    multiple = chips * config["accumulate"]
    for entry in ("batch_size", "unlabeled_batch_size"):
        if config[entry] % multiple:
            raise ConfigError(
                f"config.{entry}={config[entry]} must be a multiple of {multiple}, the {chips} "
                f"chips times config.accumulate={config['accumulate']}."
            )


def planned(
    config: Config, experiment: Experiment, run: Run, shapes: Shapes, devices: Sequence[Any]
) -> Planned:
    """The step of a run, traced for these devices.

    Args:
      config: with all entries, that `check` has looked at.
      experiment: whose task is trained.
      run: one of the config's.
      shapes: of the data set.
      devices: to compile for.

    Raises:
      ConfigError: the loss or the network cannot be used.

    Example:
      `planned(config, CLASSIFICATION, run, KNOWN["cifar10"], devices("v5e:4x4")).lowered`
    """
    known, batch = spec(shapes), config["batch_size"]
    if whitening.has_zca(config["whiten"]):
        known = known._replace(zca=whitening.blank(shapes.image))
    task = experiment.task(config, known, shapes.examples / batch)
    program = Parallel(task, None, problem.parallelism(config), config["fsdp"], devices)
    try:
        weights = class_weights.planned(config, known)
        objective = class_weights.weighted(experiment.parse(run.loss), weights)
        of = (stack([objective]), np.zeros(1, np.uint32))
        state = program.plan(*of)
        second = config["unlabeled_batch_size"]
        if config["data"] == "stream":
            examples = jax.eval_shape(lambda: blank(known.example, batch, second))
            lowered, stored = program.lower(state, *of, examples), ()
        else:
            example = dict(known.example)
            if known.zca is not None:
                example[whitening.PREPARED] = jax.ShapeDtypeStruct(known.shape, np.float32)
            stored = _stored(example, shapes.stored)
            lowered = program.lower_advance(stored, state, *of, _rows(batch, second))
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.losses.{run.method}: {error}") from error
    parts, kept = _parts(state, stored), min(_kept(state, shapes.classes))
    return Planned(lowered, batch, parts, kept, _mixed(objective))


def _mixed(objective: Any) -> bool:
    stages = objective.stages if isinstance(objective, rj.Loss) else ()
    return not stages or any(stage.definition.kind == "wrapper" for stage in stages)


def _stored(example: Any, count: int) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), example)


def _rows(batch: int, second: int) -> Rows:
    """Of as many steps as one call takes."""
    shape = (feeds.STEPS_PER_CALL, batch)
    rows = Rows(jax.ShapeDtypeStruct(shape, np.int32), jax.ShapeDtypeStruct(shape, np.float32))
    return rows._replace(unlabeled=_rows(second, 0)) if second else rows


def _parts(state: TrainState, stored: Any) -> dict[str, int]:
    network = (state.params, state.average, state.model_state)
    parts = {
        "network": network,
        "optimizer": state.opt_state,
        "statistics": state.loss_state,
        "data": stored,
    }
    return {name: sum(map(_bytes, jax.tree.leaves(tree))) for name, tree in parts.items()}


def _bytes(x: jax.ShapeDtypeStruct) -> int:
    return int(np.prod(_on_a_chip(x), dtype=np.int64)) * x.dtype.itemsize


def _on_a_chip(x: jax.ShapeDtypeStruct) -> tuple[int, ...]:
    return x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)


def _kept(state: TrainState, classes: int) -> Iterator[int]:
    yield classes
    for x in jax.tree.leaves(state.loss_state):
        if x.shape and x.shape[0] == classes:
            yield _on_a_chip(x)[0]
