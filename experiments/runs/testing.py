"""The trained networks of a work folder, tested against the config's perturbations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import ConfigError
from experiments.data import sources
from experiments.evaluation.perturbed import Perturbation, joined
from experiments.runs import groups
from experiments.runs.journal import Journal, run_of
from experiments.runs.plan import Run
from experiments.runs.problem import Problem
from experiments.training import devices
from experiments.training.feeds import Feed
from experiments.training.interruption import Interruption, StoppedError
from experiments.training.loop import Training


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


def test(
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
    group, folder = groups.group(problem, runs), journal.folder / "training" / name
    settings = groups.settings(problem, profile=False)
    try:
        states = Training(group, folder, settings, interruption, bar).trained()
        for perturbation in perturbations:
            bar.set_description(f"{group.name}: {perturbation.about}", refresh=False)
            found = _scores(problem, group.feed, states, perturbation)
            about = {"text": perturbation.text, "levels": list(perturbation.levels)}
            journal.robustness.append(
                [
                    dataclasses.asdict(run) | about | found[i]
                    for i, run in enumerate(runs)
                    if not records[i].get("diverged")
                ]
            )
            bar.update()
            if devices.any_process(bool(interruption.received)):
                raise StoppedError(interruption.received, 0)
    finally:
        group.feed.close()


def _scores(
    problem: Problem, feed: Feed, states: Any, perturbation: Perturbation
) -> list[dict[str, Any]]:
    """Of every run the scores at all levels."""
    measured = [
        feed.measure(
            states, part, examples=perturbation.examples, stored=_read(problem, perturbation, name)
        )
        for name, part in perturbation.parts()
    ]
    return [
        joined([perturbation.scores({n: x[run] for n, x in part.items()}) for part in measured])
        for run in range(len(measured[0]["label"]))
    ]


def how(problem: Problem, perturbation: Perturbation) -> dict[str, Any]:
    """The arguments of `sources.load_test` for the data sets that it reads, but the name."""
    # Stored corruptions are of the very images that networks are tested on, and are not resized.
    size = problem.spec.shape[0] if perturbation.kind == "dataset" else 0
    folder, given = problem.config["data_dir"], dict(perturbation.options)
    options = sources.Options(
        broken=problem.config["broken"], resize=given.get("resize", sources.USUAL.resize)
    )
    return {"data_dir": folder or None, "image_size": size, "options": options}


def _read(problem: Problem, perturbation: Perturbation, name: str | None) -> Any:
    """The examples of a data set that is tested on; None for the experiment's own."""
    if name is None:
        return None
    options = how(problem, perturbation)
    split, theirs = sources.load_test(name, **options), sources.describe_test(name, **options)
    label = perturbation.labels(split["label"], theirs.class_names, problem.spec.class_names)
    kept = label >= 0
    if dict(perturbation.options).get("colored"):
        kept &= np.ptp(split["image"], axis=-1).any(axis=(1, 2))
    return {"image": split["image"][kept], "label": label[kept].astype(np.int32)}
