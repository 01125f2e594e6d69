"""Trains classifiers under many losses and compares them in a table, plots and a web page.

    python -m experiments.classify --config=configs/digits.py --workdir=runs/digits

Every combination of the config's losses, training sizes, strengths and seeds is trained once;
`--config.NAME=VALUE` changes an entry. The work folder gets `config.json`, `runs.jsonl` (a line for
each finished run), `robustness.jsonl` (a line for each and what it was tested against),
`results.json`, `table.md`, the plots and `report.html`; under `training/`, for
each group of runs that are trained together, `metrics.jsonl`, TensorBoard's files and checkpoints.
Killed or stopped (Ctrl-C, SIGTERM) and started again with the same command, a comparison goes on
from its newest checkpoint and ends as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from experiments import ConfigError
from experiments.evaluation.perturbation_entries import read_all
from experiments.evaluation.perturbed import Perturbation
from experiments.report import files
from experiments.report import page as report
from experiments.runs import commands
from experiments.runs import testing as scoring
from experiments.runs.journal import Journal, alone
from experiments.runs.plan import Run, plan
from experiments.runs.problem import Problem
from experiments.training import devices
from experiments.training.interruption import Interruption, StoppedError
from experiments.training.loop import Group, Progress, Scores, Training

OWN = ("distributed", "data_dir", "workers")  # entries in which processes may differ

CONFIG = config_flags.DEFINE_config_file("config", None, "What to compare.")
WORKDIR = flags.DEFINE_string("workdir", "runs/classify", "Folder for the results.")
PROFILE = flags.DEFINE_bool("profile", False, "Write a JAX trace of a few steps of the first runs.")


def compare(
    config: ConfigDict, workdir: str | os.PathLike[str], profile: bool = False
) -> dict[str, Path]:
    """Trains what has not been trained yet, and writes the report.

    Args:
      config: with the entries of configs/digits.py.
      workdir: folder of the results, made if missing.
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
    runs = plan(plain)
    with alone(workdir, devices.is_first()), Interruption() as interruption:
        journal = Journal(workdir, plain, writes=devices.is_first())
        pending, against = journal.pending(runs), read_all(plain["perturbations"])
        untested = scoring.missing(journal, runs, against)
        if not devices.agree((pending, untested, {n: v for n, v in plain.items() if n not in OWN})):
            raise ConfigError(
                f"All processes must have the same config and see --workdir={workdir} alike, but "
                "they do not: start them with one command."
            )
        if pending or untested:
            problem = Problem(config)
            problem.check(pending)
            problem.check_perturbations(runs, against)
            for _ in _train(problem, runs, pending, journal, interruption, profile):
                _test(problem, runs, against, journal, interruption)
            _test(problem, runs, against, journal, interruption)
        if not devices.is_first():
            return {}
        environment = devices.environment() | {"command": commands.line()}
        records, tested = journal.of(runs), journal.tested(runs)
        paths = files.write(workdir, records, plain, environment, tested)
        return paths | {"report": report.write([Path(workdir)], Path(workdir, "report.html"))}


def _train(
    problem: Problem,
    runs: Sequence[Run],
    pending: Sequence[Run],
    journal: Journal,
    interruption: Interruption,
    profile: bool,
) -> Iterator[None]:
    """Trains group after group; what is done with the networks of each is the caller's."""
    total = sum(problem.steps(run) for run in pending)
    with _bar(total, "step") as bar:
        for name, group in problem.groups(runs, pending):
            bar.set_description(group.name, refresh=False)
            folder = journal.folder / "training" / name
            settings = problem.settings(profile)
            scores, progress = Training(group, folder, settings, interruption, bar).run()
            journal.runs.append(_records(name, group, scores, progress))
            profile = profile and not (folder / "profile").exists()
            yield
    if profile and pending and devices.is_first():
        print("No trace was written: --profile needs more than one call of steps.", file=sys.stderr)


def _test(
    problem: Problem,
    runs: Sequence[Run],
    against: Mapping[str, Perturbation],
    journal: Journal,
    interruption: Interruption,
) -> None:
    """Tests the networks that have been trained and not been tested yet."""
    untested = scoring.missing(journal, runs, against)
    with _bar(sum(map(len, untested.values())), "test") as bar:
        for name, perturbations in untested.items():
            scoring.score(problem, journal, name, perturbations, interruption, bar)


def _bar(total: int, unit: str) -> tqdm:
    # Not shown before the first steps, so that what is wrong until then is all that is said.
    return tqdm(
        total=total,
        unit=unit,
        delay=1e-3,
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not devices.is_first() or not total,
        leave=unit == "step",
    )


def _records(name: str, group: Group, scores: Scores, progress: Progress) -> list[dict[str, Any]]:
    """What the journal keeps of each run of a group."""
    versions = devices.environment()["versions"]
    rest = {"steps": group.steps, "versions": versions, "group": name}
    rest |= {"together": len(group.runs)}
    return [
        dataclasses.asdict(run)
        | {name: values[i].tolist() for name, values in scores.items()}
        | {"train_loss": progress.total[i], "diverged": progress.broken[i], "place": i, **rest}
        for i, run in enumerate(group.runs)
    ]


def main() -> None:
    """Runs the comparison of the flags; bad input ends it with one sentence and exit code 2."""
    try:
        devices.start(CONFIG.value.get("distributed", ""))
        paths = compare(CONFIG.value, WORKDIR.value, PROFILE.value)
    except (ConfigError, OSError, ValueError, TypeError) as error:
        commands.stop(error)
    except StoppedError as stopped:
        _stopped(stopped)
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on where this stopped.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        _failed(error)
    if paths:
        print(paths["table"].read_text(encoding="utf-8"))
        print("Written to " + ", ".join(str(path) for path in paths.values()))


def _failed(error: Exception) -> NoReturn:
    reason = (str(error).splitlines() or [""])[0].rstrip(".")
    if "RESOURCE_EXHAUSTED" in reason:
        commands.stop(
            f"The device has too little memory ({reason}): a smaller config.batch_size, a larger "
            "config.accumulate, or with several runs at once a smaller config.runs_at_once needs "
            "less."
        )
    if not jax.distributed.is_initialized():
        raise error
    if isinstance(error, jax.errors.JaxRuntimeError):
        text = f"Another process has ended ({reason}): start all of them again, and they go on."
        print(text, file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)  # an orderly end would wait for the other processes, and they for this one


def _stopped(stopped: StoppedError) -> NoReturn:
    if devices.is_first():
        name = signal.Signals(stopped.number).name if stopped.number else "another process"
        saved = f"saved at step {stopped.step}" if stopped.step else "nothing was lost"
        text = f"Stopped by {name}, {saved}: the same command goes on."
        print(text, file=sys.stderr)
    sys.exit(130 if stopped.number == signal.SIGINT else 0)


if __name__ == "__main__":
    commands.run(main)
