"""The table of the differences to the baseline, and what bold stands for, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.report.cells import Table, interval, signed
from experiments.report.differences import Compared, Difference
from experiments.report.scoring import Scoring
from experiments.runs.selection import amount

Config = Mapping[str, Any]


def markdown(compared: Compared, config: Config, scoring: Scoring) -> str:
    """Returns the table under its caption, or a sentence where there are no differences."""
    if not compared.differences:
        return missing(compared, config)
    sizes, decimals = config["train_sizes"], scoring.main.decimals
    lines = []
    for method in config["losses"]:
        if method != compared.baseline:
            found = (compared.differences.get((method, size)) for size in sizes)
            lines.append((method, [_cell(each, config["seeds"], decimals) for each in found]))
    names = ["method", *(amount(size) for size in sizes)]
    return Table(caption(compared, config, scoring), names, lines).markdown()


def missing(compared: Compared, config: Config) -> str:
    """Why there are no differences, in a sentence."""
    methods = list(config["losses"])
    if len(methods) == 1:
        return f"There are no differences: {methods[0]} is the only method."
    if compared.baseline is None:
        return (
            "There are no differences to a baseline: no method of the config is without a "
            "strength, such as baseline='cross_entropy'."
        )
    return (
        f"There are no differences to {compared.baseline}: it and another method must have "
        "finished, and not diverged, at the same training size."
    )


def caption(compared: Compared, config: Config, scoring: Scoring) -> str:
    """What the differences are, in words."""
    points = ", in percentage points" if scoring.main.percent else ""
    text = f"{scoring.heading.partition(' (')[0]} minus that of {compared.baseline}{points}: "
    kinds = {each.bootstrap for each in compared.differences.values() if each.low is not None}
    if not kinds:
        return (
            f"{text}mean of the differences at the same seeds (an interval takes two that differ)."
        )
    names = {False: "Student's t", True: "bootstrap"}
    by = " or ".join(names[kind] for kind in sorted(kinds))
    many = len(config["losses"]) > 2
    holm = ", with Holm's correction for the methods of a training size" if many else ""
    seen = config["selection"] == "test" and any(len(s) > 1 for s in config["strengths"].values())
    optimistic = " Strengths were chosen on these images, which no interval knows." if seen else ""
    return (
        f"{text}mean of the differences at the same seeds, and its 95 % interval ({by}). "
        f"*: not 0 at 5 %{holm}.{optimistic}"
    )


def bold(compared: Compared, config: Config) -> str:
    """What bold stands for, in words."""
    tested = any(each.p is not None for each in compared.differences.values())
    if not tested and (compared.differences or 1 in (config["seeds"], len(config["losses"]))):
        return "the best in bold"
    holm = ", Holm's correction" if len(config["losses"]) > 2 else ""
    return f"in bold the best and all that cannot be told from it (paired t-tests, 5 %{holm})"


def remarks(found: Difference, seeds: int) -> str:
    """What is to be said behind an interval: a star, and the seeds where they are not all."""
    star = " *" if found.is_told else ""
    unpaired = "" if found.paired else ", unpaired"
    return star + (f" (n={found.n}{unpaired})" if unpaired or found.n != seeds else "")


def _cell(found: Difference | None, seeds: int, decimals: int) -> str:
    if found is None:
        return "-"
    ends = "" if found.low is None else f" {interval(found.low, found.high, decimals)}"
    return f"{signed(found.mean, decimals)}{ends}{remarks(found, seeds)}"
