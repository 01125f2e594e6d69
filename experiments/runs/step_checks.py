"""Looks at every loss, network and perturbation of a comparison before work is spent on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import regjax as rj
from experiments import ConfigError
from experiments.data import sources
from experiments.evaluation.perturbed import Perturbation
from experiments.runs import entry_values, testing
from experiments.runs.plan import Run
from experiments.runs.problem import Problem
from experiments.training import steps
from experiments.training.descent import Descent
from experiments.training.feeds import STEPS_PER_CALL
from experiments.training.memory import Memory
from experiments.training.task import blank


def check(problem: Problem, runs: Iterable[Run]) -> None:
    """Draws every subset and traces a step of every loss.

    Raises:
      ConfigError: a loss, the network or the length of the training cannot be used.
      ValueError: the data set is too small.
    """
    runs = list(runs)
    unlabeled = problem.config["unlabeled_batch_size"]
    if isinstance(problem.source, Memory):
        problem.source.counts(problem.config["batch_size"])
        for size, seed in {(run.train_size, run.seed) for run in runs}:
            problem.source.indices(size, seed)
            if unlabeled:
                problem.source.unlabeled_indices(size, seed)
    _check_selection(problem)
    _check_lengths(problem, runs)
    each = {run.method: (run.loss, run.train_size) for run in runs}
    for method, (text, size) in each.items():
        task, program = problem.task(size)
        _check_network(problem, task)
        rows = _filled(problem, "batch_size", program.batch_multiple)
        second = _filled(problem, "unlabeled_batch_size", program.batch_multiple)
        try:
            objective = problem.objective(text, size)
            _check_images(method, objective, problem)
            steps.check(task, problem.spec.example, objective, rows, second)
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config.losses.{method}: {error}") from error


def _check_images(method: str, objective: Any, problem: Problem) -> None:
    """Refuses stages of unlabelled images without any, and of fewer images than there are."""
    images = problem.source.images
    for name, stage in objective.named() if isinstance(objective, rj.Loss) else ():
        if stage.definition.over == "unlabeled" and not problem.config["unlabeled_batch_size"]:
            raise ConfigError(
                f"config.losses.{method}: {name} is of unlabelled images: set "
                "config.unlabeled_batch_size, such as 128."
            )
        if problem.config["whiten"] and {"mean", "std"} <= stage.arguments.keys():
            raise ConfigError(
                f"config.losses.{method}: {name} finds the pixels of normalised images by mean and "
                "std, but config.whiten mixes them: leave out one of the two."
            )
        known = stage.arguments.get("images", images)
        if known < images:
            raise ConfigError(
                f"config.losses.{method}: {name}'s images={known} must be {images} or more, the "
                "data set's training images."
            )


def _check_selection(problem: Problem) -> None:
    config = problem.config
    chosen = config["selection"] == "validation" and entry_values.has_choices(config)
    if problem.source.holds_out or not chosen:
        return
    held_out = "config.validation_per_class of at least 1, or "
    raise ConfigError(
        f"config.selection='validation' needs {held_out if config['data'] == 'memory' else ''}a "
        f"data set with a validation split besides its test split, which {config['dataset']!r} "
        "has not: else set config.selection='test'."
    )


def _filled(problem: Problem, entry: str, multiple: int) -> int:
    """The size of a batch, filled up to what the devices need."""
    size = problem.config[entry]
    missing = -size % multiple
    if missing and problem.config["data"] == "stream":
        raise ConfigError(
            f"config.{entry}={size} must be a multiple of {multiple}, the devices times "
            "config.accumulate."
        )
    return size + missing


def _check_lengths(problem: Problem, runs: Sequence[Run]) -> None:
    config = problem.config
    longest = max((problem.steps(run.train_size) for run in runs), default=0)
    if longest >= steps.NEVER:
        raise ConfigError(
            f"config.epochs={config['epochs']} are {longest} steps, more than can be counted."
        )
    if 0 < config["evaluate_epochs"] * longest < config["epochs"]:
        raise ConfigError(
            f"config.evaluate_epochs={config['evaluate_epochs']} is less than one step: name a "
            "larger part of an epoch, or 0 to leave it open."
        )


def check_profile(problem: Problem, runs: Sequence[Run]) -> None:
    """Raises ConfigError where no run has a second call of steps, of which a trace is written."""
    config = problem.config
    for size in {run.train_size for run in runs}:
        evaluated = config["evaluate_epochs"] * problem.steps_per_epoch(size)
        every = [n for n in (STEPS_PER_CALL, config["checkpoint_steps"], evaluated) if n]
        if min(every) < problem.steps(size):
            return
    if runs:
        size = max(run.train_size for run in runs)
        epochs = int(STEPS_PER_CALL // problem.steps_per_epoch(size)) + 1
        raise ConfigError(
            f"--profile traces the steps after the first {STEPS_PER_CALL}, which are compiled in "
            f"that time, but no run has more: set config.epochs to {epochs} or more."
        )


def _check_network(problem: Problem, task: Any) -> None:
    """Traces network and optimizer alone, so that what is wrong is not said of a loss."""
    if not isinstance(task, Descent):
        return
    examples, forward = blank(problem.spec.example, 1), task.untrained
    jax.eval_shape(lambda forward: forward.frozen()(task.batch(examples).image), forward)
    try:
        jax.eval_shape(task.optimizer.init, forward.params)
    except ValueError as error:
        raise ConfigError(f"config.optimizer: {error}") from None


def check_evaluations(
    problem: Problem, runs: Sequence[Run], perturbations: Mapping[str, Perturbation]
) -> None:
    """Traces what is measured, each perturbation too, and looks whether its data are there.

    Raises:
      ConfigError: one does not fit the network or its images, or has no second head to sample by;
        or the network is of images of one size, and views are of several.
      OSError: a data set is missing; says how to prepare it.
      ValueError: a data set is damaged.
    """
    task, _ = problem.task(runs[0].train_size)
    objective, seed = problem.parse(runs[0].loss), np.uint32(0)
    state = jax.eval_shape(task.init, seed, objective)
    for entry in ("uncertainty", "views"):
        if problem.config[entry]:
            _check_answers(problem, task, state, entry)
    if perturbations and problem.spec.example["label"].shape:
        raise ConfigError(
            "config.perturbations are of images with one label each, but "
            f"{problem.config['dataset']!r} has one a pixel: leave them out."
        )
    for name, perturbation in perturbations.items():
        _check_range(problem.source, name, perturbation)
        try:
            jax.eval_shape(
                lambda state, of=perturbation: of.measure(
                    task, state, blank(problem.spec.example, 1)
                ),
                state,
            )
        except (AttributeError, TypeError, ValueError) as error:  # of a task without pixels
            raise ConfigError(f"config.perturbations[{name!r}]: {error}") from error
        for other, _ in perturbation.parts():
            if other is not None:
                _check_read(problem, name, perturbation, other)


def _check_answers(problem: Problem, task: Any, state: Any, entry: str) -> None:
    examples = blank(problem.spec.example, 1)
    try:
        jax.eval_shape(lambda state: problem.evaluation.measure(task, state, examples), state)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.{entry}: {error}") from error


def _check_range(source: Any, name: str, perturbation: Perturbation) -> None:
    """Refuses pixels beyond [0, 1], such as moves alone, where they would be clipped."""
    if not perturbation.clips or not isinstance(source, Memory):
        return
    image = source.stored["image"][source.tests]
    low, high = image.min(), image.max()
    if image.dtype != np.uint8 and (low < 0 or high > 1):
        raise ConfigError(
            f"config.perturbations[{name!r}]: {perturbation.kind} clips pixels to [0, 1], but the "
            f"images to test go from {low:.3g} to {high:.3g}: leave it out."
        )


def _check_read(problem: Problem, name: str, perturbation: Perturbation, other: str) -> None:
    ours = problem.spec
    found = sources.describe_test(other, **testing.how(problem, perturbation))
    try:
        perturbation.labels(np.arange(found.classes), found.class_names, ours.class_names)
    except ValueError as error:
        raise ConfigError(f"config.perturbations[{name!r}]: {error}") from None
    same_classes = perturbation.kind == "dataset" or found.classes == ours.classes
    if tuple(found.shape) != ours.shape or not same_classes:
        raise ConfigError(
            f"config.perturbations[{name!r}]: {other} has images {list(found.shape)} of "
            f"{found.classes} classes, but the networks are for {list(ours.shape)} of "
            f"{ours.classes}."
        )
