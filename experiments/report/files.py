"""What a comparison leaves behind: its numbers as JSON, its table, its plots."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.report import (
    difference_plot,
    differences,
    main_plots,
    main_table,
    perturbation_plots,
    perturbation_tables,
    phases,
    plots,
    scoring,
    unsure_tables,
)
from experiments.report.differences import Compared
from experiments.report.perturbation_scores import Robustness, gather
from experiments.report.published import published
from experiments.report.scoring import Scoring
from experiments.runs import about
from experiments.runs.folder import first_phase, with_versions
from experiments.runs.selection import Record, Row, select, summarize
from experiments.runs.shown import shown

Config = Mapping[str, Any]


def write(
    workdir: str | os.PathLike[str],
    records: Sequence[Record],
    config: Config,
    environment: Mapping[str, str],
    robustness: Sequence[Record] = (),
) -> dict[str, Path]:
    """Writes results.json, table.md and the plots; each file appears whole or not at all.

    Args:
      workdir: an existing folder; its about.json says how its runs are scored.
      records: the finished runs, see selection.py.
      config: the comparison's config.
      environment: hardware and versions by name, for the table's footer.
      robustness: the scores under perturbations, of robustness.jsonl.

    Returns:
      The files' paths: "results", "table", "accuracy_by_size"; where a method has strengths,
      "accuracy_by_strength"; where there is a baseline beside others, "differences"; where
      networks were tested, "robustness" and "corruptions".

    Raises:
      ValueError: if there are no records, or as `selection.select` does.
    """
    if not records:
        raise ValueError("There is nothing to report: no run has finished.")
    folder = Path(workdir)
    known = about.read(folder)
    show = scoring.of(config, known, records)
    rows = summarize(records, show.score)
    chosen = select(records, config["selection"], show.score)
    environment = with_versions(environment, records)
    first = first_phase(folder, config)
    found = gather(config, chosen, robustness, published(config))
    compared = differences.gather(config, chosen, records, show)
    # The numbers come first, so that no trouble with a figure can lose them.
    results = _results(rows, chosen, config, environment, show) | _differences(compared)
    results["rows"] = [
        row
        | {"lists": _lists(row, records)}
        | {"bold": row["method"] in compared.best[show.score, row["train_size"]]}
        for row in results["rows"]
    ]
    results |= phases.results(config, first, len(records))
    results["robustness"] = [dataclasses.asdict(tested) for tested in found.tested.values()]
    text = json.dumps(results, indent=2, allow_nan=False).encode()
    every, notes = perturbation_tables.robust(found, chosen, records, config, show.scored)
    by_class = (chosen, records, robustness, show.class_names, show.scored)
    tested = [*every, *unsure_tables.tables(found, *by_class)], notes
    said = [phases.words(config, first, len(records))]
    said += [phases.table(config, first).markdown()] if first else []
    table = main_table.markdown(rows, chosen, config, environment, show, compared, tested, said)
    paths = {
        "results": replace(folder / "results.json", text),
        "table": replace(folder / "table.md", table.encode()),
    }
    strengths = (first.rows, first.chosen) if first else (rows, chosen)
    for name, figure in _figures(strengths, chosen, found, config, show, compared).items():
        paths[name] = replace(folder / f"{name}.png", plots.render(figure, "png"))
    return paths


def replace(path: Path, data: bytes) -> Path:
    """Writes beside the file and renames, so that an interruption leaves the old one whole."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        return temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _figures(
    strengths: tuple[Sequence[Row], Sequence[Row]],
    chosen: Sequence[Row],
    found: Robustness,
    config: Config,
    show: Scoring,
    compared: Compared,
) -> dict[str, Figure]:
    methods = list(config["losses"])
    figures = {
        "accuracy_by_size": main_plots.accuracy_by_size(chosen, methods, published(config), show)
    }
    if any(row.strength is not None for row in strengths[0]):
        figures["accuracy_by_strength"] = main_plots.accuracy_by_strength(*strengths, methods, show)
    if compared.differences:
        figures["differences"] = difference_plot.draw(compared, chosen, config, show)
    for size, figure in perturbation_plots.figures(found, chosen, methods, show.scored):
        several = len(config["train_sizes"]) > 1
        figures |= {f"{name}_{size}" if several else name: each for name, each in figure.items()}
    return figures


def _results(
    rows: Sequence[Row],
    chosen: Sequence[Row],
    config: Config,
    environment: Mapping[str, str],
    show: Scoring,
) -> dict[str, Any]:
    paper = published(config)
    return {
        "score": show.score,
        "scored": show.scored,
        "selection": config["selection"],
        "protocol": scoring.protocol(config),
        "teacher_scored": scoring.taught(config),
        "score_epochs": config.get("score_epochs", 1),
        "rows": [dataclasses.asdict(row) for row in chosen],
        "strengths": [dataclasses.asdict(row) for row in rows],
        "published": [
            {"method": method, "train_size": size, "mean": mean, "std": std}
            for (method, size), (mean, std) in paper.items()
        ],
        "published_source": config["published_source"] if paper else "",
        "published_seeds": config["published_seeds"] if paper else 0,
        "environment": dict(environment),
    }


def _differences(compared: Compared) -> dict[str, Any]:
    return {
        "baseline": compared.baseline,
        "differences": [
            {"method": method, "train_size": size, **dataclasses.asdict(each)}
            for (method, size), each in compared.differences.items()
        ],
    }


def _lists(row: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    """The means over the seeds of the scores that are lists, such as a confusion matrix."""
    mine = [r for r in records if all(r[n] == row[n] for n in ("method", "train_size", "strength"))]
    names = [n for n, v in mine[0].items() if n.startswith("test_") and isinstance(v, list)]
    found = {n.removeprefix("test_"): [record.get(n) for record in mine] for n in names}
    return {name: _mean(values, shown(name).scale) for name, values in found.items()}


def _mean(values: Sequence[Any], scale: float) -> Any:
    if all(isinstance(value, list) for value in values):
        return [_mean(each, scale) for each in itertools.zip_longest(*values)]
    known = [value for value in values if isinstance(value, int | float)]
    return scale * statistics.fmean(known) if known else None
