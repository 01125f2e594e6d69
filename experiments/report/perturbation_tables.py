"""What perturbations leave of the accuracy: tables beside the paper's, and a check of attacks."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.evaluation.perturbation_entries import read_all
from experiments.evaluation.perturbed import Perturbation
from experiments.report.plots import Paper
from experiments.runs.selection import Record, Row, amount

Config = Mapping[str, Any]
MEAN = "mean"
ITERATIVE = ("pgd", "mim")  # the attacks that must mislead every network, given room
ALLOWED = 1.25  # times chance, which few images need not meet
CHECKED = 0.5  # of the pixels' range: an attack may do nearly anything


@dataclasses.dataclass(frozen=True)
class Tested:
    """A method at its chosen strength, under one perturbation, over its seeds.

    Attributes:
      method: the method's name.
      train_size: training examples per class, 0 for all.
      name: the perturbation's, in the config.
      n: the number of networks.
      mean: of the accuracy at each level, in percent.
      std: its sample standard deviation at each level; None if n is 1.
      ece: the mean expected calibration error at each level, in percent; None where a network's
        answers are not finite.
    """

    method: str
    train_size: int
    name: str
    n: int
    mean: tuple[float, ...]
    std: tuple[float, ...] | None
    ece: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Robustness:
    """All that a comparison's networks were tested on.

    Attributes:
      perturbations: by name, in the config's order.
      tested: by training size, method and name; what has not been tested yet is missing.
      published: numbers in percent likewise, for each level one or None.
    """

    perturbations: Mapping[str, Perturbation]
    tested: Mapping[tuple[int, str, str], Tested]
    published: Mapping[tuple[int, str, str], Sequence[float | None]]

    def named(self, corruptions: bool) -> dict[str, Perturbation]:
        """The perturbations that are corruptions of CIFAR-C, or those that are not."""
        return {
            name: p
            for name, p in self.perturbations.items()
            if p.kind.endswith("corruption") == corruptions
        }


def gather(
    config: Config, chosen: Sequence[Row], records: Sequence[Record], paper: Paper
) -> Robustness:
    """The scores of the chosen rows, by perturbation.

    Args:
      config: the comparison's config; older ones have no perturbations.
      chosen: a row of each method and training size.
      records: of robustness.jsonl.
      paper: the published numbers on clean images, for what was trained: those under perturbations
        are of the same networks.
    """
    perturbations = read_all(config.get("perturbations", {}))
    tested = {}
    for row in chosen:
        mine = [r for r in records if all(r[n] == getattr(row, n) for n in _NAMES)]
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


_NAMES = ("method", "train_size", "strength", "loss")


def _tested(row: Row, name: str, runs: Sequence[Record]) -> Tested:
    levels = range(len(runs[0]["levels"]))
    accuracy = [[100 * run["accuracy"][i] for run in runs] for i in levels]
    several = len(runs) > 1
    return Tested(
        method=row.method,
        train_size=row.train_size,
        name=name,
        n=len(runs),
        mean=tuple(map(statistics.fmean, accuracy)),
        std=tuple(map(statistics.stdev, accuracy)) if several else None,
        ece=tuple(_mean([run["ece"][i] for run in runs]) for i in levels),
    )


def _mean(errors: Sequence[float | None]) -> float | None:
    return None if None in errors else 100 * statistics.fmean(e for e in errors if e is not None)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: its title, the names of its columns, and lines of a name and cells."""

    title: str
    columns: list[str]
    lines: list[tuple[str, list[str]]]

    def markdown(self) -> str:
        """The table in Markdown, under its title."""
        rows = [self.columns, *([name, *cells] for name, cells in self.lines)]
        text = ["| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in rows]
        text.insert(1, "|" + " --- |" * len(self.columns))
        return f"{self.title}\n\n" + "\n".join(text)


def tables(found: Robustness, methods: Sequence[str], sizes: Sequence[int]) -> Iterator[Table]:
    """Yields a table of every perturbation and, of all corruptions together, one.

    Args:
      found: of `gather`.
      methods: the methods' names, in the order of the lines.
      sizes: the training sizes.
    """
    for size in sizes:
        where = f", {amount(size)}" if len(sizes) > 1 else ""
        for name, perturbation in found.named(corruptions=False).items():
            yield _levels(found, methods, size, name, perturbation, where)
        if found.named(corruptions=True):
            yield _corruptions(found, methods, size, where)


def _levels(
    found: Robustness,
    methods: Sequence[str],
    size: int,
    name: str,
    perturbation: Perturbation,
    where: str,
) -> Table:
    rows = {method: found.tested.get((size, method, name)) for method in methods}
    paper = {method: found.published.get((size, method, name)) for method in methods}
    columns, cells = ["method"], {method: list[str]() for method in methods}
    for i, level in enumerate(perturbation.levels):
        columns.append(f"{perturbation.level} {level:.4g}")
        best = max((row.mean[i] for row in rows.values() if row), default=math.nan)
        for method, row in rows.items():
            cells[method].append(_cell(row, i, best))
        if any(values and values[i] is not None for values in paper.values()):
            columns.append("paper")
            for method, values in paper.items():
                cells[method].append(_beside(values[i] if values else None, rows[method], i))
    images = f", {perturbation.examples} test images" if perturbation.examples else ""
    title = f"Accuracy (%) under {name} (`{perturbation.text}`){images}{where}:"
    return Table(title, columns, list(cells.items()))


def _cell(row: Tested | None, i: int, best: float) -> str:
    if row is None:
        return "-"
    number = f"{row.mean[i]:.2f}" + (f" ± {row.std[i]:.2f}" if row.std else "")
    number = f"**{number}**" if row.mean[i] == best else number
    return f"{number} (n={row.n})" if i == 0 else number


def _beside(value: float | None, row: Tested | None, i: int) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" + ("" if row is None else f" ({row.mean[i] - value:+.1f})")


def _corruptions(found: Robustness, methods: Sequence[str], size: int, where: str) -> Table:
    """The mean over the severities of each corruption, and the mean of all."""
    rows = corruption_means(found, methods, size)
    lines = []
    for name, means in rows.items():
        best = max((m for m in means if m is not None), default=None)
        lines.append((name, [_number(mean, best) for mean in means]))
    images = {p.examples for p in found.named(corruptions=True).values()} - {0}
    few = f", {min(images)} test images" if images else ""
    n = {t.n for (at, _, name), t in found.tested.items() if at == size and name in rows}
    seeds = " to ".join(str(each) for each in sorted({min(n, default=0), max(n, default=0)}))
    over = f"mean over severities and {seeds} seed{'s' * (seeds != '1')}"
    title = f"Accuracy (%) under CIFAR-C's corruptions, {over}{few}{where}:"
    return Table(title, ["corruption", *methods], lines)


def corruption_means(
    found: Robustness, methods: Sequence[str], size: int
) -> dict[str, list[float | None]]:
    """By corruption each method's mean accuracy over severities and seeds, last the mean of all."""

    def mean(method: str, name: str) -> float | None:
        row = found.tested.get((size, method, name))
        return None if row is None else statistics.fmean(row.mean)

    rows = {name: [mean(m, name) for m in methods] for name in found.named(corruptions=True)}
    columns = zip(*rows.values(), strict=True)
    means = [None if None in column else statistics.fmean(column) for column in columns]
    return rows | {MEAN: means}


def _number(mean: float | None, best: float | None) -> str:
    text = "-" if mean is None else f"{mean:.2f}"
    return f"**{text}**" if mean == best and best is not None else text


def calibration(records: Sequence[Record], chosen: Sequence[Row], size: int) -> Table:
    """The calibration on clean test images, of the chosen rows."""
    lines = []
    for row in (row for row in chosen if row.train_size == size and row.mean is not None):
        mine = [r for r in records if all(r[name] == getattr(row, name) for name in _NAMES)]
        ece = _spread([100 * r["test_ece"] for r in mine])
        lines.append((row.method, [_spread([r["test_nll"] for r in mine]), ece]))
    columns = ["method", "negative log-likelihood (nats)", "expected calibration error (%)"]
    return Table(f"Calibration on clean test images, {amount(size)}:", columns, lines)


def _spread(values: Sequence[float]) -> str:
    std = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{std} (n={len(values)})"


def gradients(found: Robustness, classes: int) -> Iterator[str]:
    """Says of each attack whether it does to every network what it must where it may do anything.

    An attack that leaves more than chance although it may change every pixel by half the range
    does not see what the network does: its gradients are masked, or its steps are too few.
    """
    chance = 100 / classes
    for name, perturbation in found.perturbations.items():
        linf = dict(perturbation.options).get("norm", "linf") == "linf"
        if perturbation.kind not in ITERATIVE or not linf:
            continue
        largest = max(perturbation.levels)
        i = perturbation.levels.index(largest)
        mine = [tested for tested in found.tested.values() if tested.name == name]
        several = len({tested.train_size for tested in mine}) > 1
        left = {
            t.method + (f" ({amount(t.train_size)})" if several else ""): t.mean[i] for t in mine
        }
        if largest < CHECKED or not left:
            continue
        yield _verdict(name, largest, chance, left)


def _verdict(name: str, epsilon: float, chance: float, left: Mapping[str, float]) -> str:
    test = f"Masked gradients: {name} with epsilon {epsilon:g} (chance is {chance:.3g} %) leaves"
    above = {method: mean for method, mean in left.items() if mean > ALLOWED * chance}
    if not above:
        return f"{test} at most {max(left.values()):.1f} % to any method: no sign of them."
    named = ", ".join(f"{mean:.1f} % to {method}" for method, mean in above.items())
    return (
        f"{test} {named}: the attack does not see what these networks do, so its numbers mislead."
    )
