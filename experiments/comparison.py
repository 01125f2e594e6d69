"""Any experiment as a comparison: trains what is missing, tests it, writes the report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import ConfigError
from experiments.evaluation import answers, perturbation_entries
from experiments.evaluation.perturbed import Perturbation
from experiments.report import files, page, pictures
from experiments.runs import (
    about,
    commands,
    config_flag,
    groups,
    imports,
    retraining,
    step_checks,
    testing,
    whitened,
)
from experiments.runs.about import About
from experiments.runs.entries import OWN
from experiments.runs.entry_values import runs_at_once
from experiments.runs.experiment import Config, Experiment, check_entries, check_metrics
from experiments.runs.journal import Journal, alone
from experiments.runs.plan import Run, plan
from experiments.runs.problem import Problem
from experiments.runs.selection import amount
from experiments.training import devices
from experiments.training.group import Group, Progress, Scores
from experiments.training.interruption import Interruption
from experiments.training.loop import Training
from experiments.training.progress import progress

# By the names of their groups.
Begun = Mapping[str, Sequence[Run]]
Untested = Mapping[str, Sequence[Perturbation]]


def compare(
    config: ConfigDict,
    workdir: str | os.PathLike[str],
    experiment: Experiment,
    profile: bool = False,
) -> dict[str, Path]:
    """Trains what has not been trained yet, and writes the report.

    Args:
      config: with the entries of `experiments.runs.entries`.
      workdir: folder of the results, made if missing.
      experiment: what is trained, on what, and how it is scored.
      profile: whether to write a JAX trace of a few steps.

    Returns:
      The paths of the report's files by name, see `files.write`, and "report"; none in all
      processes but the first.

    Raises:
      StoppedError: a signal was received; all is saved.
      ConfigError: the config or the folder cannot be used; raised before anything is trained.
      OSError: the data set is missing; says how to prepare it.
      ValueError: the data set is damaged or too small.
    """
    plain = config.to_dict()
    check_entries(plain, experiment)
    imports.load(plain)
    # Each expression is parsed once.
    experiment = dataclasses.replace(experiment, parse=functools.cache(experiment.parse))
    runs = plan(plain, experiment.parse)
    check_metrics(plain, experiment)
    with alone(workdir, devices.is_first()), Interruption() as interruption:
        whole = _Phase(Path(workdir), plain, experiment, interruption, profile)
        first = retraining.first(plain)
        if first is not None:
            runs = _chosen(whole, first, runs)
        whole.carry_out(runs)
        return whole.report(runs) if devices.is_first() else {}


def _chosen(whole: _Phase, first: Config, runs: Sequence[Run]) -> list[Run]:
    """Chooses strengths by runs in a folder of their own; returns those that train again."""
    data = functools.cache(functools.partial(whole.experiment.read, whole.config))  # read once
    whole.experiment = dataclasses.replace(whole.experiment, read=lambda _: data())
    folder = whole.journal.folder / retraining.FOLDER
    plain = dataclasses.replace(whole.experiment, pictures=None)  # of the second phase alone
    before = _Phase(folder, first, plain, whole.interruption, whole.profile)
    mine = [run for run in runs if run.method in first["losses"]]
    pending, *_ = before.left(mine)
    if pending:
        whole.check(Problem(whole.config, whole.experiment, folder), runs, runs)
        _say(
            f"Strengths are chosen first, by {len(mine)} runs ({len(pending)} are left) without "
            f"the held-out images, in {folder}."
        )
    before.carry_out(mine)
    if pending and devices.is_first():
        before.report(mine)
    strengths = retraining.chosen(mine, before.journal.of(mine), whole.experiment.score)
    again = retraining.second(runs, strengths)
    if whole.journal.pending(again):
        each = (f"{method} {s:g} ({amount(size)})" for (method, size), s in strengths.items())
        _say(f"Chosen, and trained again on all training images: {', '.join(each)}.")
    return again


def _say(text: str) -> None:
    if text and devices.is_first():
        print(text, file=sys.stderr, flush=True)


class _Phase:
    """The runs of a folder."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        experiment: Experiment,
        interruption: Interruption,
        profile: bool,
    ) -> None:
        """Opens the folder; ConfigError where it is of another config or experiment."""
        self.config, self.experiment = config, experiment
        self.interruption, self.profile = interruption, profile
        self.journal = Journal(folder, config, writes=devices.is_first())
        about.check(self.journal.folder, About(experiment.name, experiment.score))
        sampled = answers.read(config["uncertainty"])
        self._against = perturbation_entries.read_all(config["perturbations"], sampled)

    def left(self, runs: list[Run]) -> tuple[list[Run], Untested, Begun]:
        """What is to be trained and tested, and what was begun; all processes must agree."""
        journal, config = self.journal, self.config
        pending, untested = journal.pending(runs), testing.missing(journal, runs, self._against)
        begun = groups.begun(journal.folder / "training", pending, runs_at_once(config))
        shared = {name: value for name, value in config.items() if name not in OWN}
        if devices.agree((pending, untested, begun, shared)):
            return pending, untested, begun
        raise ConfigError(
            f"All processes must have the same config and see --workdir={journal.folder} alike, "
            "but they do not: start them with one command."
        )

    def carry_out(self, runs: list[Run]) -> None:
        """Trains and tests what is missing."""
        journal, config, against = self.journal, self.config, self._against
        pending, untested, begun = self.left(runs)
        if pending or untested:
            problem = Problem(config, self.experiment, journal.folder)
            _say(problem.about)
            self.check(problem, runs, pending)
            if self.profile:
                step_checks.check_profile(problem, pending)
            work = Work(problem, journal, self.interruption)
            work.describe()
            work.leave(groups.divided(runs, pending, runs_at_once(config), begun))
            for _ in work.train(runs, pending, begun, self.profile):
                work.test(runs, against)
            work.test(runs, against)
        elif about.read(journal.folder).spec is None:  # of an older version
            with contextlib.suppress(OSError):  # its tables do not need its data
                Work(Problem(config, self.experiment), journal, self.interruption).describe()

    def check(self, problem: Problem, runs: Sequence[Run], pending: Sequence[Run]) -> None:
        """Looks at what is trained, and what it is tested on, before work is spent on it."""
        step_checks.check(problem, pending)
        step_checks.check_evaluations(problem, runs, self._against)

    def report(self, runs: list[Run]) -> dict[str, Path]:
        """Writes the report, the numbers first; returns its files.

        Raises:
          StoppedError: a signal was received before the last picture was drawn.
        """
        folder, journal = self.journal.folder, self.journal
        environment = devices.environment() | {"command": commands.line()}
        records, tested = journal.of(runs), journal.tested(runs)
        paths = files.write(folder, records, self.config, environment, tested)
        try:
            pictures.write(folder, self.config, self.experiment, self.interruption)
        finally:
            paths["report"] = page.write([folder], folder / "report.html")
        return paths


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to be done in a work folder."""

    problem: Problem
    journal: Journal
    interruption: Interruption

    def describe(self) -> None:
        """Writes what the folder's runs are of."""
        if devices.is_first():
            kind = self.problem.experiment
            about.write(self.journal.folder, About(kind.name, kind.score, self.problem.spec))
            whitened.write(self.journal.folder, self.problem.config, self.problem.spec.zca)

    def leave(self, named: Collection[str]) -> None:
        """Says which groups were begun and are neither finished nor among those that are named."""
        finished = {record.get("group") for record in self.journal.runs.records}
        folder = self.journal.folder / "training"
        for name in groups.with_checkpoints(folder):
            if named and devices.is_first() and name not in {*named, *finished}:
                print(
                    f"{folder / name} was begun with other runs than the config now names, or with "
                    "more at once: it is left as it is, and its runs are trained anew.",
                    file=sys.stderr,
                )

    def train(
        self, runs: Sequence[Run], pending: Sequence[Run], begun: Begun, profile: bool
    ) -> Iterator[None]:
        """Trains group after group; what is done with the networks of each is the caller's."""
        problem = self.problem
        total = sum(problem.steps(run.train_size) for run in pending)
        with progress(total, "step") as bar:
            for name, group in groups.groups(problem, runs, pending, begun):
                folder = self.train_group(name, group, bar, profile)
                profile = profile and not (folder / "profile").exists()
                yield
        if profile and pending and devices.is_first():
            text = "No trace was written: what was left to train was one call of steps."
            print(text, file=sys.stderr)

    def train_group(self, name: str, group: Group, bar: tqdm, profile: bool = False) -> Path:
        """Trains the runs of a group and records them; returns the group's folder."""
        bar.set_description(group.name, refresh=False)
        folder = self.journal.folder / "training" / name
        settings = groups.settings(self.problem, profile)
        training = Training(group, folder, settings, self.interruption, bar)
        self.journal.runs.append(_records(name, group, *training.run()))
        return folder

    def test(self, runs: Sequence[Run], against: Mapping[str, Perturbation]) -> None:
        """Tests the networks that have been trained and not been tested yet."""
        untested = testing.missing(self.journal, runs, against)
        with progress(sum(map(len, untested.values())), "test") as bar:
            for name, perturbations in untested.items():
                of = (self.problem, self.journal, name)
                testing.test(*of, perturbations, self.interruption, bar)


def _records(
    name: str, group: Group, scores: Sequence[Scores], progress: Progress
) -> list[dict[str, Any]]:
    """What the journal keeps of each run of a group."""
    rest = {
        "steps": group.steps,
        "versions": devices.environment()["versions"],
        "group": name,
        "together": len(group.labels),
    }
    return [
        run
        | mine
        | {"train_loss": progress.total[i], "diverged": progress.broken[i], "place": i, **rest}
        for i, (run, mine) in enumerate(zip(group.belongs_to["runs"], scores, strict=True))
    ]


def door(experiment: Experiment) -> None:
    """Runs the command of an experiment: `--config`, `--workdir`, `--profile`."""
    config_flag.define()
    name = experiment.name.partition(":")[0].rpartition(".")[2]
    flags.DEFINE_string("workdir", f"runs/{name}", "Folder for the results.")
    flags.DEFINE_bool("profile", False, "Write a JAX trace of a few steps of the first runs.")
    commands.run(functools.partial(main, experiment))


def main(experiment: Experiment) -> None:
    """Runs the comparison of the flags; bad input ends it with one sentence and exit code 2."""
    config, given = flags.FLAGS.config, flags.FLAGS
    with commands.ends():
        timeout = config.get("distributed_timeout", 300)
        devices.start(config.get("distributed", ""), timeout)
        devices.check()
        paths = compare(config, given.workdir, experiment, given.profile)
    if paths:
        print(paths["table"].read_text(encoding="utf-8"))
        print("Written to " + ", ".join(str(path) for path in paths.values()))
