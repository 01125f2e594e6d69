"""The accuracy that perturbations leave: gathered over the seeds, beside the published numbers."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.evaluation.perturbation_entries import read
from experiments.evaluation.perturbed import Perturbation
from experiments.report.published import Paper
from experiments.runs.selection import Record, Row

NAMES = ("method", "train_size", "strength", "loss")
MEAN = "mean"


@dataclasses.dataclass(frozen=True)
class Tested:
    """A method at its chosen strength, under one perturbation, over its seeds.

    Attributes:
      method: the method's name.
      train_size: the number of training examples per class, 0 for all.
      name: the perturbation's name in the config.
      n: the number of networks.
      mean: the mean of the accuracy at each level, in percent.
      std: its sample standard deviation at each level; None if n is 1.
      ece: the mean expected calibration error at each level, in percent; None where a network's
        answers are not finite.
      by_seed: the accuracy of each network at each level, in percent.
      draw_std: the sample standard deviation of the accuracy over draws at each level, in percent,
        the mean over the networks; () where there is one draw.
      draw_variance: the variance likewise, of the accuracy as a share.
    """

    method: str
    train_size: int
    name: str
    n: int
    mean: tuple[float, ...]
    std: tuple[float, ...] | None
    ece: tuple[float | None, ...]
    by_seed: Mapping[int, tuple[float, ...]]
    draw_std: tuple[float, ...] = ()
    draw_variance: tuple[float, ...] = ()

    def at(self, level: int) -> dict[int, float]:
        """Returns the accuracy of each network at a level."""
        return {seed: values[level] for seed, values in self.by_seed.items()}


@dataclasses.dataclass(frozen=True)
class Robustness:
    """All that a comparison's networks were tested on.

    Attributes:
      perturbations: the perturbations by name, in the config's order.
      tested: the scores by training size, method and name; what has not been tested yet is missing.
      published: the published numbers in percent likewise, for each level one or None.
    """

    perturbations: Mapping[str, Perturbation]
    tested: Mapping[tuple[int, str, str], Tested]
    published: Mapping[tuple[int, str, str], Sequence[float | None]]

    def named(self, corruptions: bool) -> dict[str, Perturbation]:
        """Returns the perturbations that are published corruptions, or those that are not."""
        return {
            name: p
            for name, p in self.perturbations.items()
            if p.kind.endswith("corruption") == corruptions
        }

    def leveled(self) -> dict[str, Perturbation]:
        """Returns those that are no corruptions and have levels, which another data set has not."""
        return {name: p for name, p in self.named(corruptions=False).items() if p.level}


def gather(
    config: Mapping[str, Any], chosen: Sequence[Row], records: Sequence[Record], paper: Paper
) -> Robustness:
    """Returns the scores of the chosen rows, by perturbation.

    Args:
      config: the comparison's config; older ones have no perturbations.
      chosen: a row of each method and training size.
      records: of robustness.jsonl.
      paper: the published numbers on clean images, for what was trained: those under perturbations
        are of the same networks.
    """
    texts = config.get("perturbations", {})
    perturbations = {name: p for name, text in texts.items() if (p := _perturbation(text, records))}
    tested = {}
    for row in chosen:
        mine = [r for r in records if all(r[n] == getattr(row, n) for n in NAMES)]
        for name, perturbation in perturbations.items():
            # By seed, since a run may have been tested twice.
            each = {r["seed"]: r for r in mine if r["text"] == perturbation.text}
            if each:
                key = (row.train_size, row.method, name)
                tested[key] = _tested(row, name, list(each.values()))
    theirs = config.get("published_robustness", {})
    published = {
        (size, method, name): values
        for method, size in paper
        for name, values in theirs.get(method, {}).items()
    }
    return Robustness(perturbations, tested, published)


def _perturbation(text: str, records: Sequence[Record]) -> Perturbation | None:
    """The perturbation; one whose module is not there as it was recorded, if it was."""
    try:
        return read(text)
    except ValueError:
        levels = next((tuple(r["levels"]) for r in records if r["text"] == text), None)
    return (
        None if levels is None else Perturbation(text, str(text).partition("(")[0], levels, (), 0)
    )


def corruption_means(
    found: Robustness, methods: Sequence[str], size: int
) -> dict[str, list[float | None]]:
    """Returns by corruption each method's mean over severities and seeds, last the mean of all."""

    def mean(method: str, name: str) -> float | None:
        row = found.tested.get((size, method, name))
        return None if row is None else statistics.fmean(row.mean)

    rows = {name: [mean(m, name) for m in methods] for name in found.named(corruptions=True)}
    columns = zip(*rows.values(), strict=True)
    means = [None if None in column else statistics.fmean(column) for column in columns]
    return rows | {MEAN: means}


def corruptions_by_seed(
    found: Robustness, methods: Sequence[str], size: int
) -> dict[str, dict[str, dict[int, float]]]:
    """Returns by corruption, method and seed the mean over severities, last the mean of all."""
    rows: dict[str, dict[str, dict[int, float]]] = {}
    for name in found.named(corruptions=True):
        tested = {m: t for m in methods if (t := found.tested.get((size, m, name)))}
        rows[name] = {
            method: {seed: statistics.fmean(values) for seed, values in each.by_seed.items()}
            for method, each in tested.items()
        }
    rows[MEAN] = {
        method: _over_all([row.get(method, {}) for row in rows.values()]) for method in methods
    }
    return rows


def _over_all(rows: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The means of the seeds that all rows have."""
    seeds = [seed for seed in rows[0] if all(seed in row for row in rows)] if rows else []
    return {seed: statistics.fmean(row[seed] for row in rows) for seed in seeds}


def _tested(row: Row, name: str, runs: Sequence[Record]) -> Tested:
    levels = range(len(runs[0]["levels"]))
    accuracy = [[100 * run["accuracy"][i] for run in runs] for i in levels]
    several = len(runs) > 1
    drawn = [[run["accuracy_by_draw"][i] for run in runs] for i in levels if _are_drawn(runs)]
    return Tested(
        method=row.method,
        train_size=row.train_size,
        name=name,
        n=len(runs),
        mean=tuple(map(statistics.fmean, accuracy)),
        std=tuple(map(statistics.stdev, accuracy)) if several else None,
        ece=tuple(_mean([run["ece"][i] for run in runs]) for i in levels),
        by_seed={run["seed"]: tuple(100 * a for a in run["accuracy"]) for run in runs},
        draw_std=tuple(statistics.fmean(100 * statistics.stdev(x) for x in each) for each in drawn),
        draw_variance=tuple(statistics.fmean(map(statistics.variance, each)) for each in drawn),
    )


def _are_drawn(runs: Sequence[Record]) -> bool:
    return all("accuracy_by_draw" in run for run in runs)


def _mean(errors: Sequence[float | None]) -> float | None:
    return None if None in errors else 100 * statistics.fmean(e for e in errors if e is not None)
