"""One HTML page about any number of run folders: it opens from disk and needs no network.

    python -m experiments.report runs/a runs/b --output=report.html

The folders are those of `python -m experiments.classify`, finished or not, of one config or of
several. The page is page.html.jinja, what a folder holds is read in run_folder.py, and the
figures are drawn in plots.py and curves.py.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from absl import flags
from matplotlib.figure import Figure

from experiments import ConfigError
from experiments.report import by_class, curves, plots, tables
from experiments.report import perturbation_tables as robustness_tables
from experiments.runs import commands, entries
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunFolder
from experiments.runs.plan import Run
from experiments.runs.selection import SELECTIONS, Row, amount

USAGE = "python -m experiments.report runs/a runs/b --output=report.html"


def write(folders: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> Path:
    """Writes the page, whole or not at all, and returns its path.

    Args:
      folders: work folders of comparisons.
      output: the page's path; its folder exists.

    Raises:
      ConfigError: there is no folder, one is not a comparison's or is damaged, or the page cannot
        be written.
      ValueError: a folder's runs do not fit its `selection`, see `selection.select`.

    Example:
      report.write(["runs/digits"], "runs/digits/report.html")
    """
    if not folders:
        raise ConfigError(f"There is no folder to report on: {USAGE}")
    page = render([run_folder.read(folder) for folder in folders], os.fspath(output))
    try:
        # "replace": a name may hold half of a surrogate pair, which no encoding has.
        return tables.replace(Path(output), page.encode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(
            f"--output={output} cannot be written ({error.strerror}): choose a file in a folder "
            "that exists and that you may write."
        ) from None


def render(folders: Sequence[RunFolder], output: str) -> str:
    """Returns the page.

    Args:
      folders: at least one.
      output: where the page will lie, for the command that it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["images"] = functools.partial(amount, noun="images ")
    command = ["python", "-m", "experiments.report", *(f.name for f in folders)]
    return environment.get_template("page.html.jinja").render(
        folders=[_section(folder) for folder in folders],
        differences=differences(folders),
        side_by_side=_side_by_side(folders),
        steps=by_class.STEPS,
        command=shlex.join([*command, f"--output={output}"]),
    )


def differences(folders: Sequence[RunFolder]) -> list[tuple[str, list[str]]]:
    """Returns the config entries that differ: their names, and their values in every folder.

    An entry inside another is named with a dot between them; where it is missing stands "-".
    """
    flat = [dict(_flat(folder.config)) for folder in folders]
    names = dict.fromkeys(itertools.chain.from_iterable(flat))
    values = ((name, [config.get(name, "-") for config in flat]) for name in names)
    return [(name, row) for name, row in values if len(set(row)) > 1]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value, ensure_ascii=False)


def _side_by_side(folders: Sequence[RunFolder]) -> list[tuple[str, int, list[Row | None]]]:
    """Every method and training size with its row in each folder."""
    cells = [{(row.train_size, row.method): row for row in folder.chosen} for folder in folders]
    names = dict.fromkeys(itertools.chain.from_iterable(cells))
    ordered = sorted(names, key=lambda name: name[0])
    return [(method, size, [c.get((size, method)) for c in cells]) for size, method in ordered]


def _section(folder: RunFolder) -> dict[str, Any]:
    config = folder.config
    setup = {name: config[name] for name in entries.SHOWN if name in config}
    setup |= folder.environment
    return {
        "name": folder.name,
        "varied": any(row.strength is not None for row in folder.rows),
        "selection": SELECTIONS[config["selection"]],
        "published": bool(tables.published(config)),
        "published_source": config.get("published_source"),
        "published_seeds": config.get("published_seeds"),
        "results": _results(folder),
        "finished": len(folder.records),
        "planned": len(folder.planned),
        "unfinished": _named(folder.unfinished),
        "diverged": _named(folder.diverged),
        "figures": list(_figures(folder)),
        **_robustness(folder),
        "curves": list(_curves(folder)),
        "classes": list(by_class.tables(folder)),
        "command": setup.pop("command", None),
        "setup": setup,
        "losses": config["losses"],
        "config": json.dumps(config, indent=2, ensure_ascii=False),
    }


def _robustness(folder: RunFolder) -> dict[str, Any]:
    """Tables, figures and sentences about what the networks were tested on."""
    config, paper = folder.config, tables.published(folder.config)
    found = robustness_tables.gather(config, folder.chosen, folder.robustness, paper)
    tested, said = tables.robust(found, folder.chosen, folder.records, config)
    figures = []
    for size, each in tables.tested_figures(found, folder.chosen, list(config["losses"])):
        if "robustness" in each:
            text = "Lines are means, bands standard deviations over the seeds; 0 is without."
            title = f"Accuracy under perturbations, {amount(size)}"
            figures.append(_figure(title, each["robustness"], text))
        if "corruptions" in each:
            text = "Means over severities and seeds."
            title = f"Accuracy under corruptions, {amount(size)}"
            figures.append(_figure(title, each["corruptions"], text))
    return {"tested": tested, "tested_figures": figures, "tested_remarks": said}


def _results(folder: RunFolder) -> list[dict[str, Any]]:
    """For each training size its lines: our row beside the published number."""
    rows = {(row.method, row.train_size): row for row in folder.chosen}
    paper, sizes = tables.published(folder.config), []
    for size in folder.config["train_sizes"]:
        cells = [(method, rows.get((method, size))) for method in folder.config["losses"]]
        best = max((row.mean for _, row in cells if row and row.mean is not None), default=None)
        lines = [(method, row, paper.get((method, size))) for method, row in cells]
        sizes.append({"size": size, "best": best, "lines": lines})
    return sizes


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


def _figures(folder: RunFolder) -> Iterator[dict[str, str]]:
    methods = list(folder.config["losses"])
    if folder.chosen:
        paper = tables.published(folder.config)
        yield _figure(
            "Accuracy against training size",
            plots.accuracy_by_size(folder.chosen, methods, paper),
            "Error bars are standard deviations over the seeds."
            + (" Hollow markers are the published numbers." if paper else ""),
        )
    if any(row.strength is not None for row in folder.rows):
        yield _figure(
            "Accuracy against strength",
            plots.accuracy_by_strength(folder.rows, folder.chosen, methods),
            "Bands are standard deviations over the seeds; a large marker is the chosen strength. "
            "Strengths where a run diverged are left out.",
        )


def _curves(folder: RunFolder) -> Iterator[dict[str, str]]:
    gathered = curves.gather(folder.metrics(), folder.chosen, folder.planned)
    look = plots.styles(list(folder.config["losses"]), folder.rows)
    for quantity, cells in gathered.items():
        scale = 100.0 if curves.is_accuracy(quantity) else 1.0
        last = (
            f"{method}, {amount(size)}: {scale * curve.mean[-1]:.4g}"
            for (method, size), curve in cells.items()
            if curve.mean.size
        )
        figure = curves.draw(quantity, cells, look)
        yield _figure(curves.title(quantity), figure, "Last values: " + "; ".join(last))


def _figure(title: str, figure: Figure, text: str) -> dict[str, str]:
    data = base64.b64encode(plots.render(figure, "svg")).decode()
    return {"title": title, "source": f"data:image/svg+xml;base64,{data}", "text": text}


def main(*folders: str) -> None:
    """Writes the page about the folders that the command line names."""
    try:
        path = write(folders, flags.FLAGS.output)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    print(f"Written to {path}")
