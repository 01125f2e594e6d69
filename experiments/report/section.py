"""What the page says of one folder: its results, figures, curves and setup."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure

from experiments.report import (
    by_class,
    curves,
    difference_plot,
    difference_table,
    differences,
    main_plots,
    main_table,
    perturbation_plots,
    perturbation_tables,
    phases,
    pictures,
    plots,
    scoring,
    unsure_tables,
)
from experiments.report.cells import cell, interval, minus, signed
from experiments.report.differences import Compared, Difference
from experiments.report.perturbation_scores import gather
from experiments.report.published import Paper, published
from experiments.report.scoring import Scoring
from experiments.runs import entries
from experiments.runs.folder import RunFolder
from experiments.runs.plan import Run
from experiments.runs.selection import Row, amount, rule
from experiments.runs.shown import shown


def of(folder: RunFolder) -> dict[str, Any]:
    """Returns what page.html.jinja shows of a folder."""
    config, show = folder.config, scoring.of(folder.config, folder.about, folder.records)
    compared = differences.gather(config, folder.chosen, folder.records, show)
    setup = {name: config[name] for name in entries.SHOWN if name in config}
    setup |= folder.environment
    return {
        "name": folder.name,
        "varied": any(row.strength is not None for row in folder.rows),
        "selection": rule(
            config["selection"], show.score, show.scored, bool(config.get("validation_per_class"))
        ),
        "heading": show.heading,
        "scored": show.scored,
        "others": [shown(score).words for score in show.others],
        "choice": any(len(some) > 1 for some in config["strengths"].values()),
        "majority": show.majority,
        "protocol": scoring.protocol(config),
        "phases": phases.words(config, folder.first, len(folder.records)),
        "by_strength": phases.table(config, folder.first) if folder.first else None,
        "published": bool(published(config)),
        "published_source": config.get("published_source"),
        "published_seeds": config.get("published_seeds"),
        "baseline": compared.baseline if compared.differences else None,
        "minus": _minus(compared, config, show),
        "bold": difference_table.bold(compared, config),
        "results": list(_results(folder, show, compared)),
        "finished": len(folder.records),
        "planned": len(folder.planned),
        "unfinished": _named(folder.unfinished),
        "diverged": _named(folder.diverged),
        "figures": list(_figures(folder, show, compared)),
        "pictures": list(pictures.stored(folder)),
        **_robustness(folder, show),
        "curves": list(_curves(folder, show)),
        "class_score": by_class.score(folder),
        "classes": list(by_class.tables(folder, show.class_names)),
        "command": setup.pop("command", None),
        "setup": setup,
        "losses": config["losses"],
        "config": json.dumps(config, indent=2, ensure_ascii=False),
    }


def _minus(compared: Compared, config: Mapping[str, Any], show: Scoring) -> str:
    """What the columns of the differences are, or why there are none."""
    if not compared.differences:
        return difference_table.missing(compared, config)
    return difference_table.caption(compared, config, show)


def _results(folder: RunFolder, show: Scoring, compared: Compared) -> Iterator[dict[str, Any]]:
    """For each training size a line per method: our row beside the published number."""
    rows = {(row.method, row.train_size): row for row in folder.chosen}
    paper, methods = published(folder.config), list(folder.config["losses"])
    for size in folder.config["train_sizes"]:
        cells = [rows.get((method, size)) for method in methods]
        lines = [
            {
                "method": method,
                "cells": _cells(row, paper, (method, size), compared, show, folder.config),
                "remark": _remark(row),
            }
            for method, row in zip(methods, cells, strict=True)
        ]
        yield {"size": size, "lines": lines}


def _cells(
    row: Row | None,
    paper: Paper,
    place: tuple[str, int],
    compared: Compared,
    show: Scoring,
    config: Mapping[str, Any],
) -> list[str]:
    """Strength, n, the main score, its difference, the paper's, and the other scores."""
    method, size = place
    bold = {name for (name, at), best in compared.best.items() if at == size and method in best}
    strength = "" if row is None or row.strength is None else f"{row.strength:g}"
    mean, std = (row.mean, row.std) if row else (None, None)
    decimals = show.main.decimals
    cells = [strength, str(row.n if row else 0)]
    cells += [cell(mean, decimals=decimals, bold=show.score in bold), cell(std, decimals=decimals)]
    if compared.differences:
        cells += _difference(compared.differences.get(place), config["seeds"], decimals)
    if paper:
        theirs = paper.get(place, (None, None))
        difference = minus(mean, theirs[0])
        cells.append(cell(*theirs, decimals=decimals))
        cells.append("-" if difference is None else signed(difference, decimals))
    return cells + [main_table.result(row, name, name in bold, whole=False) for name in show.others]


def _difference(found: Difference | None, seeds: int, decimals: int) -> list[str]:
    """The difference to the baseline, and its interval with what is to be said of it."""
    if found is None:
        return ["-", "-"]
    ends = interval(found.low, found.high, decimals) + difference_table.remarks(found, seeds)
    return [signed(found.mean, decimals), ends]


def _remark(row: Row | None) -> str:
    if row is None:
        return "no run has finished"
    return f"{row.diverged} of {row.n} diverged" if row.diverged else ""


def _robustness(folder: RunFolder, show: Scoring) -> dict[str, Any]:
    """Tables, figures and sentences about what the networks were tested on."""
    config, chosen = folder.config, folder.chosen
    found = gather(config, chosen, folder.robustness, published(config))
    tested, said = perturbation_tables.robust(found, chosen, folder.records, config, show.scored)
    by_class = (folder.records, folder.robustness, show.class_names, show.scored)
    tested = [*tested, *unsure_tables.tables(found, chosen, *by_class)]
    figures, methods = [], list(config["losses"])
    for size, each in perturbation_plots.figures(found, chosen, methods, show.scored):
        if "robustness" in each:
            text = "Lines are means, bands standard deviations over the seeds; 0 is without."
            title = f"Accuracy under perturbations, {amount(size)}"
            figures.append(_figure(title, each["robustness"], text))
        if "corruptions" in each:
            text = "Means over severities and seeds."
            title = f"Accuracy under corruptions, {amount(size)}"
            figures.append(_figure(title, each["corruptions"], text))
    return {"tested": tested, "tested_figures": figures, "tested_remarks": said}


def _named(runs: Iterable[Run]) -> list[str]:
    """The runs in words, those that differ by their seed only together."""
    groups: dict[tuple[str, int, float | None], list[str]] = {}
    for run in runs:
        key = (run.method, run.train_size, run.strength)
        groups.setdefault(key, []).append(str(run.seed))
    return [
        f"{method}, {amount(size)}"
        + ("" if strength is None else f", strength {strength:g}")
        + f": {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}"
        for (method, size, strength), seeds in groups.items()
    ]


def _figures(folder: RunFolder, show: Scoring, compared: Compared) -> Iterator[dict[str, str]]:
    methods, name = list(folder.config["losses"]), show.main.name
    paper = published(folder.config)
    name = name[:1].upper() + name[1:]
    if folder.chosen:
        yield _figure(
            f"{name} against training size",
            main_plots.accuracy_by_size(folder.chosen, methods, paper, show),
            "Error bars are standard deviations over the seeds."
            + (" Hollow markers are the published numbers." if paper else ""),
        )
    if compared.differences:
        crosses = " Crosses are differences of published means." if paper else ""
        yield _figure(
            f"{name} minus that of {compared.baseline}",
            difference_plot.draw(compared, folder.chosen, folder.config, show),
            "Bars are 95 % intervals; a marker is filled where the difference is not 0 at 5 %, "
            f"corrected for several methods.{crosses}",
        )
    of = folder.first or folder
    if any(row.strength is not None for row in of.rows):
        yield _figure(
            f"{name} against strength",
            main_plots.accuracy_by_strength(of.rows, of.chosen, methods, show),
            "Bands are standard deviations over the seeds; a large marker is the chosen strength. "
            "Strengths where a run diverged are left out."
            + (" Of the runs that chose the strengths." if folder.first else ""),
        )


def _curves(folder: RunFolder, show: Scoring) -> Iterator[dict[str, str]]:
    gathered = curves.gather(folder.metrics(), folder.chosen, folder.planned, show)
    look = plots.styles(list(folder.config["losses"]), folder.rows)
    for quantity, cells in gathered.items():
        last = (
            f"{method}, {amount(size)}: {curves.scale(quantity) * curve.mean[-1]:.4g}"
            for (method, size), curve in cells.items()
            if curve.mean.size
        )
        figure = curves.draw(quantity, cells, look, show)
        title = curves.title(quantity, show)
        yield _figure(title, figure, "Last values: " + "; ".join(last))


def _figure(title: str, figure: Figure, text: str) -> dict[str, str]:
    data = base64.b64encode(plots.render(figure, "svg")).decode()
    return {"title": title, "source": f"data:image/svg+xml;base64,{data}", "text": text}
