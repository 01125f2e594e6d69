"""A config's data, network and programs: from a list of runs to groups that can be trained."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

import regjax as rj
import regjax.flax
from experiments import models
from experiments.training import optimizers
from experiments.evaluation import perturbed as robustness
from experiments.training import step as training
from experiments.runs.plan import SHARED, Run
from experiments.data import sources
from experiments.data.preprocessing import normalise
from experiments.data.streams import Streams
from experiments import ConfigError
from experiments.training.loop import Group, Settings
from experiments.training.memory import Memory
from experiments.training.record import slug
from experiments.training.parallel import Parallel
from experiments.evaluation.perturbed import Perturbation
from experiments.training.streaming import Stream
from experiments.training.sweep import Sweep


class Problem:
    """What the runs of a config share: the data set and the compiled programs."""

    def __init__(self, config: ConfigDict) -> None:
        """Opens the data set, or reads it whole."""
        self._config = config
        self._source: Memory | Stream
        if config.data == "stream":
            self._source = Stream(
                Streams(
                    config.dataset,
                    config.data_dir or None,
                    image_size=config.image_size,
                    workers=config.workers,
                )
            )
        else:
            dataset = sources.load(config.dataset, config.data_dir or None)
            self._source = Memory(dataset, config.validation_per_class, config.data_dir or None)
        self._program = functools.cache(self._new_program)

    def check(self, runs: Iterable[Run]) -> None:
        """Draws every subset and traces a step of every loss, before any work is spent on them."""
        runs = list(runs)
        if isinstance(self._source, Memory):
            for size, seed in {(run.train_size, run.seed) for run in runs}:
                self._source.indices(size, seed)
        self._check_steps(runs)
        each = {run.method: (run.loss, run.train_size) for run in runs}
        for method, (text, size) in each.items():
            task, program = self._program(self._key(size))
            self._check_network(task)
            missing = -self._config.batch_size % program.batch_multiple
            if missing and self._config.data == "stream":
                raise ConfigError(
                    f"config.batch_size={self._config.batch_size} must be a multiple of "
                    f"{program.batch_multiple}, the devices times config.accumulate."
                )
            rows = self._config.batch_size + missing
            try:
                training.check(task, self._source.shape, rj.parse(text), rows)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"config.losses.{method}: {error}") from error

    def check_perturbations(
        self, runs: Iterable[Run], perturbations: Mapping[str, Perturbation]
    ) -> None:
        """Traces each on each network, and looks whether what it reads is there."""
        task, _ = self._program(self._key(next(iter(runs)).train_size))
        state = jax.eval_shape(functools.partial(training.init, task), np.uint32(0))
        image = jax.ShapeDtypeStruct((1, *self._source.shape), jnp.uint8)
        label = jax.ShapeDtypeStruct((1,), jnp.int32)
        for name, perturbation in perturbations.items():
            look = functools.partial(robustness.perturbed, task, perturbation)
            try:
                jax.eval_shape(look, state, image, label, label)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"config.perturbations[{name!r}]: {error}") from error
            if isinstance(self._source, Memory):
                self._source.check(perturbation)

    def _check_steps(self, runs: Sequence[Run]) -> None:
        config, steps = self._config, max(map(self.steps, runs), default=0)
        if steps >= training.NEVER:
            raise ConfigError(
                f"config.epochs={config.epochs} are {steps} steps, more than can be counted."
            )
        if 0 < config.evaluate_epochs * steps < config.epochs:
            raise ConfigError(
                f"config.evaluate_epochs={config.evaluate_epochs} is less than one step: name a "
                "larger part of an epoch, or 0 to evaluate at the end only."
            )

    def _check_network(self, task: training.Task) -> None:
        """Traces network and optimizer alone, so that what is wrong is not said of a loss."""
        image = jax.ShapeDtypeStruct((1, *self._source.shape), jnp.uint8)
        forward = task.network
        jax.eval_shape(lambda forward, image: forward.frozen()(task.prepare(image)), forward, image)
        try:
            jax.eval_shape(task.optimizer.init, forward.params)
        except ValueError as error:  # it names parts that the network does not have
            raise ConfigError(f"config.optimizer: {error}") from None

    def groups(self, runs: Sequence[Run], pending: Collection[Run]) -> Iterator[tuple[str, Group]]:
        """The pending runs that are trained together, with a name for each such group's folder.

        All runs are divided, so that an interruption does not divide them in another way.
        """
        alike = itertools.groupby(runs, lambda run: (run.method, run.train_size))
        for (method, size), some in alike:
            for together in _evenly(list(some), self._config.runs_at_once):
                part = [run for run in together if run in pending]
                if not part:
                    continue
                # Groups of other runs, after the config has grown, are others.
                sign = zlib.crc32(repr(part).encode())
                yield slug(f"{method}-{size}-{sign:08x}"), self.group(part)

    def settings(self, profile: bool) -> Settings:
        """What else happens during the training."""
        config = self._config
        return Settings(
            evaluate_epochs=config.evaluate_epochs,
            checkpoint_steps=config.checkpoint_steps,
            keep_checkpoints=config.keep_checkpoints,
            selection=config.selection,
            profile=profile,
        )

    def shapes(self, size: int) -> tuple[training.Task, training.TrainState]:
        """What is trained on that many images per class, and the shapes of its state."""
        task, _ = self._program(self._key(size))
        return task, jax.eval_shape(functools.partial(training.init, task), np.uint32(0))

    def steps(self, run: Run) -> int:
        """How many steps a run takes."""
        return round(self._config.epochs * self._steps_per_epoch(run.train_size))

    def _steps_per_epoch(self, size: int) -> float:
        return self._source.steps_per_epoch(size, self._config.batch_size)

    def group(self, runs: Sequence[Run]) -> Group:
        """The group of runs that are trained together."""
        config, size = self._config, runs[0].train_size
        _, program = self._program(self._key(size))
        plain = config.to_dict()
        return Group(
            runs=runs,
            feed=self._source.feed(program, runs, config.batch_size),
            steps=self.steps(runs[0]),
            steps_per_epoch=self._steps_per_epoch(size),
            examples=config.batch_size * len(runs),
            rate=self._rate(self._steps_per_epoch(size)),
            belongs_to={name: plain[name] for name in SHARED}
            | {
                "runs": [dataclasses.asdict(run) for run in runs],
                "devices": program.runs_multiple,
                "runs_at_once": "1" if config.runs_at_once == 1 else "several",
            },
        )

    def _key(self, size: int) -> float:
        """Sizes of one key share their compiled programs: those where no number depends on it."""
        fixed = self._config.schedule == "constant" and not self._config.growing
        return 0 if fixed else self._steps_per_epoch(size)

    def _rate(self, steps_per_epoch: float) -> optax.Schedule:
        config = self._config
        return optimizers.schedule(
            config.schedule, config.learning_rate, steps_per_epoch, config.epochs
        )

    def _new_program(self, steps_per_epoch: float) -> tuple[training.Task, Any]:
        config, source = self._config, self._source

        def build(key: jax.Array, axis_name: str | None = None) -> rj.Forward:
            model = models.create(
                config.model, source.shape, source.classes, nnx.Rngs(key), axis_name=axis_name
            )
            return regjax.flax.bind(model, head="head")

        task = training.Task(
            build=build,
            optimizer=optimizers.optimizer(
                config.optimizer, self._rate(steps_per_epoch), config.clip_norm
            ),
            prepare=functools.partial(normalise, mean=config.mean or None, std=config.std or None),
            classes=source.classes,
            dtype=jnp.dtype(config.dtype),
            accumulate=config.accumulate,
            decay=config.average,
            growing=config.growing,
            steps=round(config.epochs * steps_per_epoch),
        )
        if config.runs_at_once > 1 and source.data is not None:
            sweep = Sweep(task, source.data, config.strategy or None)
            source.data = sweep.data  # on the device once, for all programs
            return task, sweep
        # What the compiler makes of CPU convolutions sends their activations under "jit".
        kind = config.parallelism or ("shard_map" if config.fsdp == 1 else "jit")
        parallel = Parallel(task, source.data, source.shape, kind, config.fsdp)
        source.data = parallel.data
        return task, parallel


def _evenly(runs: list[Run], most: int) -> list[list[Run]]:
    """Parts of at most `most` runs, as equal as can be: each size is one compilation."""
    parts = -(-len(runs) // most)
    bounds = [round(i * len(runs) / parts) for i in range(parts + 1)]
    return [runs[a:b] for a, b in itertools.pairwise(bounds)]
