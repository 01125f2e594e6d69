"""What the runs of a config share: the data, and the compiled programs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.data import spec
from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.data.streams import Streams
from experiments.runs import class_weights, entry_values, whitened
from experiments.runs.experiment import Config, Experiment
from experiments.training.memory import Memory
from experiments.training.parallel import Parallel
from experiments.training.streaming import Stream
from experiments.training.sweep import Sweep
from experiments.training.task import Task


class Problem:
    """A config's data and programs.

    Attributes:
      config: the config, a plain dict.
      experiment: the experiment of the config.
      source: the examples.
      spec: the description of the data.
      about: lines about the data, to be shown; "" for data sets that are described elsewhere.
      parse: the function from a loss's expression to the loss.
    """

    def __init__(self, config: Config, experiment: Experiment, folder: Path | None = None) -> None:
        """Opens the data set, or reads it whole; whitening goes by what is in the folder."""
        self.config, self.experiment = config, experiment
        self.parse = experiment.parse
        data = experiment.read(config)
        zca = whitened.of(config, data, folder)
        about = getattr(data, "about", "")  # a door may read data of its own
        lines = (about or class_weights.announced(config, data), whitened.announced(config, zca))
        self.about = "\n".join(filter(None, lines))
        self.source, spec = _opened(data, config)
        self.spec = spec._replace(zca=zca)
        if zca is not None:
            self.source.stored |= whitened.prepared(config, zca, self.source.stored["image"])
        self.program = functools.cache(self._new_program)
        self.evaluation = experiment.evaluation(config, self.spec)

    def objective(self, text: str, size: int) -> Any:
        """What a run of that many images a class minimises, of its loss's expression."""
        weights = class_weights.of(self.config, self.spec, self.source, size)
        return class_weights.weighted(self.parse(text), weights)

    def steps(self, size: int) -> int:
        """How many steps a run takes on that many images a class."""
        return round(self.config["epochs"] * self.steps_per_epoch(size))

    def steps_per_epoch(self, size: int) -> float:
        """The batches of an epoch."""
        return self.source.steps_per_epoch(size, self.config["batch_size"])

    def task(self, size: int) -> tuple[Task, Any]:
        """What is trained on that many images a class, and its compiled programs."""
        # Sizes share both where no number depends on the length of an epoch.
        fixed = self.config["schedule"] == "constant" and not self.config["growing"]
        return self.program(0.0 if fixed else self.steps_per_epoch(size))

    def _new_program(self, steps_per_epoch: float) -> tuple[Task, Any]:
        config, source = self.config, self.source
        task = self.experiment.task(config, self.spec, steps_per_epoch)
        if entry_values.runs_at_once(config) > 1 and source.stored is not None:
            program: Any = Sweep(task, source.stored, config["strategy"] or None)
        else:
            program = Parallel(task, source.stored, parallelism(config), config["fsdp"])
        source.stored = program.stored  # on the device once, for all programs
        return task, program


def parallelism(config: Config) -> str:
    """How one run of a config is spread over devices."""
    # What the compiler makes of CPU convolutions sends their activations under "jit".
    chosen: str = config["parallelism"]
    return chosen or ("shard_map" if config["fsdp"] == 1 else "jit")


def _opened(data: Dataset | Streams, config: Config) -> tuple[Memory | Stream, Spec]:
    unlabeled = config["unlabeled_batch_size"]
    if isinstance(data, Streams):
        each, every = jax.ShapeDtypeStruct((), np.int32), data.shape[:2]
        example = {
            "image": jax.ShapeDtypeStruct(data.shape, np.uint8),
            "label": jax.ShapeDtypeStruct(every, np.uint8) if data.dense else each,
        }
        known = Spec(example, data.classes, data.class_names, data.scored)
        return Stream(data, unlabeled), known
    memory = Memory(
        data,
        entry_values.held_out(config),
        config["mixture"],
        unlabeled,
        config["unlabeled_includes_labeled"],
        balanced=config["sampling"] == "balanced",
        included=config["validation_included"],
        equal_updates=config["equal_updates"],
        owners=[seed for _, seed in entry_values.mixed(config)],
    )
    return memory, spec.of_arrays(data.train, data.classes, data.class_names, data.scored)
