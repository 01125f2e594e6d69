"""The trained networks of a work folder, tested against the config's perturbations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.training import devices
from experiments.runs.plan import Run
from experiments import ConfigError
from experiments.training.interruption import Interruption, StoppedError
from experiments.runs.journal import Journal, run_of
from experiments.training.loop import Training
from experiments.runs.problem import Problem
from experiments.evaluation.perturbed import Perturbation


def missing(
    journal: Journal, runs: Sequence[Run], perturbations: Mapping[str, Perturbation]
) -> dict[str, list[Perturbation]]:
    """By the name of each group that has been trained, what its networks are still to be tested on.

    Networks that diverged are not tested.

    Raises:
      ConfigError: a run is of a version that did not record its group.
    """
    scored = {(run_of(record), record["text"]) for record in journal.robustness.records}
    groups: dict[str, list[Perturbation]] = {}
    for record in journal.of(list(runs)):
        run = run_of(record)
        each = dict.fromkeys(p for p in perturbations.values() if (run, p.text) not in scored)
        if record.get("diverged") or not each:
            continue
        if "group" not in record:
            raise ConfigError(
                f"{journal.folder} was trained by an older version, whose networks cannot be "
                "tested against perturbations: choose another --workdir."
            )
        group = groups.setdefault(record["group"], [])
        group += [p for p in each if p not in group]
    return groups


def score(
    problem: Problem,
    journal: Journal,
    name: str,
    perturbations: Sequence[Perturbation],
    interruption: Interruption,
    bar: Any,
) -> None:
    """Tests the networks of a trained group, one perturbation after the other.

    Args:
      problem: of the config.
      journal: takes the scores, each as soon as it is there.
      name: of the group.
      perturbations: what to test against.
      interruption: looked at after each.
      bar: moved on by one after each.

    Raises:
      StoppedError: a signal was received.
      ConfigError: the group has no checkpoint of its end.
    """
    records = {r["place"]: r for r in journal.runs.records if r.get("group") == name}
    runs = [run_of(records[place]) for place in sorted(records)]
    group, folder = problem.group(runs), journal.folder / "training" / name
    try:
        states = Training(group, folder, problem.settings(False), interruption, bar).trained()
        for perturbation in perturbations:
            bar.set_description(f"{group.name}: {perturbation.about}", refresh=False)
            found = group.feed.perturbed(states, perturbation)
            about = {"text": perturbation.text, "levels": list(perturbation.levels)}
            journal.robustness.append(
                [
                    dataclasses.asdict(run) | about | {n: v[i].tolist() for n, v in found.items()}
                    for i, run in enumerate(runs)
                    if not records[i].get("diverged")
                ]
            )
            bar.update()
            if devices.any_process(bool(interruption.received)):
                raise StoppedError(interruption.received, 0)
    finally:
        group.feed.close()
