"""What a comparison says: tables beside the paper's, plots, and all of it as JSON.

The strengths are chosen in selection.py, the figures drawn in plots.py. A config has the entries of
configs/digits.py; its published numbers are `{method: {"train size": (mean, std)}}` in percent, for
the data set and the model that `published_for` names.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.report import perturbation_plots as robustness_plots
from experiments.report import perturbation_tables as robustness_tables
from experiments.report import plots
from experiments.report.perturbation_tables import Robustness
from experiments.runs.selection import SELECTIONS, Record, Row, amount, select, summarize

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
      workdir: an existing folder.
      records: the finished runs, see selection.py.
      config: the comparison's config.
      environment: hardware and versions by name, for the table's footer.
      robustness: the scores under perturbations, of robustness.jsonl.

    Returns:
      The files' paths: "results", "table", "accuracy_by_size"; where a method has strengths,
      "accuracy_by_strength"; where networks were tested, "robustness" and "corruptions".

    Raises:
      ValueError: if there are no records, or as `selection.select` does.
    """
    if not records:
        raise ValueError("There is nothing to report: no run has finished.")
    rows, chosen = summarize(records), select(records, config["selection"])
    folder = Path(workdir)
    environment = with_versions(environment, records)
    found = robustness_tables.gather(config, chosen, robustness, published(config))
    # The numbers come first, so that no trouble with a figure can lose them.
    results = _results(rows, chosen, config, environment)
    results["robustness"] = [dataclasses.asdict(tested) for tested in found.tested.values()]
    text = json.dumps(results, indent=2, allow_nan=False).encode()
    tested = robust(found, chosen, records, config)
    table = markdown(rows, chosen, config, environment, tested).encode()
    paths = {
        "results": replace(folder / "results.json", text),
        "table": replace(folder / "table.md", table),
    }
    for name, figure in _figures(rows, chosen, found, config).items():
        paths[name] = replace(folder / f"{name}.png", plots.render(figure, "png"))
    return paths


def _figures(
    rows: Sequence[Row], chosen: Sequence[Row], found: Robustness, config: Config
) -> dict[str, Figure]:
    methods = list(config["losses"])
    figures = {"accuracy_by_size": plots.accuracy_by_size(chosen, methods, published(config))}
    if any(row.strength is not None for row in rows):
        figures["accuracy_by_strength"] = plots.accuracy_by_strength(rows, chosen, methods)
    for size, figure in tested_figures(found, chosen, methods):
        several = len(config["train_sizes"]) > 1
        figures |= {f"{name}_{size}" if several else name: each for name, each in figure.items()}
    return figures


def tested_figures(
    found: Robustness, chosen: Sequence[Row], methods: Sequence[str]
) -> Iterator[tuple[int, dict[str, Figure]]]:
    """Yields, for every training size at which networks were tested, its figures by name."""
    for size in sorted({size for size, _, _ in found.tested}):
        figures, mine = {}, [row for row in chosen if row.train_size == size]
        names = {name for at, _, name in found.tested if at == size}
        if names & set(found.named(corruptions=False)):
            figures["robustness"] = robustness_plots.curves(found, mine, methods)
        if names & set(found.named(corruptions=True)):
            figures["corruptions"] = robustness_plots.corruptions(found, mine, methods)
        yield size, figures


def robust(
    found: Robustness, chosen: Sequence[Row], records: Sequence[Record], config: Config
) -> tuple[list[robustness_tables.Table], list[str]]:
    """The tables of what the networks were tested on, and what is to be said of the attacks."""
    if not found.tested:
        return [], []
    sizes = config["train_sizes"]
    tables = [*robustness_tables.tables(found, list(config["losses"]), sizes)]
    tables += [robustness_tables.calibration(records, chosen, size) for size in sizes]
    classes = max((len(r.get("class_accuracy", ())) for r in records), default=0)
    return tables, [*robustness_tables.gradients(found, classes)] if classes else []


def markdown(
    rows: Sequence[Row],
    chosen: Sequence[Row],
    config: Config,
    environment: Mapping[str, str],
    tested: tuple[Sequence[robustness_tables.Table], Sequence[str]] = ((), ()),
) -> str:
    """Returns the table: a line per method, a column per training size, the paper's beside it.

    Args:
      rows: a row of each method, training size and strength.
      chosen: the chosen ones among them.
      config: the comparison's config.
      environment: hardware and versions by name.
      tested: tables and sentences of `robust`, which follow.
    """
    cells = {(row.method, row.train_size): row for row in chosen}
    columns = [["method", *(name.replace("|", r"\|") for name in config["losses"])]]
    for size in config["train_sizes"]:
        columns += _columns(size, cells, config)
    lines = ["| " + " | ".join(line) + " |" for line in zip(*columns, strict=True)]
    lines.insert(1, "|" + " --- |" * len(columns))
    facts = (f"{name}: {value}" for name, value in environment.items() if name != "command")
    footer = "; ".join(facts)
    parts = [_caption(config), "\n".join(lines), _unfinished(rows, config)]
    parts += [*(table.markdown() for table in tested[0]), *tested[1], footer]
    return "\n\n".join(part for part in parts if part) + "\n"


def published(config: Config) -> plots.Paper:
    """Returns the config's published (mean, standard deviation) by (method, training size).

    There are none where the data set or the model is another than theirs.
    """
    if [config["dataset"], config["model"]] != list(config.get("published_for", ())):
        return {}
    return {
        (method, int(size)): tuple(value)
        for method, sizes in config["published"].items()
        for size, value in sizes.items()
    }


def _columns(size: int, cells: Mapping[tuple[str, int], Row], config: Config) -> list[list[str]]:
    """One training size: the column of our numbers and, where there are any, of the paper's."""
    ours = [cells.get((method, size)) for method in config["losses"]]
    best = max((row.mean for row in ours if row and row.mean is not None), default=None)
    column = [amount(size), *(_cell(row, best) for row in ours)]
    paper = published(config)
    theirs = [paper.get((method, size)) for method in config["losses"]]
    if not any(theirs):
        return [column]
    return [column, ["paper", *map(_beside, theirs, ours)]]


def _cell(row: Row | None, best: float | None) -> str:
    if row is None:
        return "-"
    if row.mean is None:
        return f"diverged ({row.diverged} of {row.n})"
    number = _number(row.mean, row.std)
    number = f"**{number}**" if row.mean == best else number
    strength = "" if row.strength is None else f", at {row.strength:g}"
    return f"{number} (n={row.n}){strength}"


def _beside(value: tuple[float, float] | None, row: Row | None) -> str:
    if value is None:
        return "-"
    difference = "" if row is None or row.mean is None else f" ({row.mean - value[0]:+.2f})"
    return _number(*value) + difference


def _number(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def _caption(config: Config) -> str:
    text = (
        f"Test accuracy (%) on {config['dataset']} with {config['model']}: mean ± sample standard "
        f"deviation over n seeds, the best in bold. {config['epochs']} epochs, batches of "
        f"{config['batch_size']}, {config['optimizer']} at {config['learning_rate']:g}."
    )
    if any(config["strengths"].get(method) for method in config["losses"]):
        text += f' "At": the strength, chosen for {SELECTIONS[config["selection"]]}'
        held_out = f" ({config['validation_per_class']} per class, not trained on)"
        text += f"{held_out if config['selection'] == 'validation' else ''}."
    if not published(config):
        return text
    return (
        f"{text} Paper (n={config['published_seeds']}): {config['published_source']}. In "
        "parentheses, ours minus the paper's."
    )


def _unfinished(rows: Sequence[Row], config: Config) -> str:
    strengths = sum(len(config["strengths"].get(m) or (None,)) for m in config["losses"])
    expected = strengths * len(config["train_sizes"]) * config["seeds"]
    done = sum(row.n for row in rows)
    return f"Unfinished: {done} of {expected} runs." if done < expected else ""


def with_versions(environment: Mapping[str, str], records: Sequence[Record]) -> Mapping[str, str]:
    """Returns the environment with the versions that the runs were trained with."""
    versions = dict.fromkeys(record.get("versions", "not recorded") for record in records)
    if list(versions) == ["not recorded"]:
        return environment
    return {**environment, "versions": " and ".join(versions)}


def _results(
    rows: Sequence[Row], chosen: Sequence[Row], config: Config, environment: Mapping[str, str]
) -> dict[str, Any]:
    paper = published(config)
    return {
        "selection": config["selection"],
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


def replace(path: Path, data: bytes) -> Path:
    """Writes beside the file and renames, so that an interruption leaves the old one whole."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        return temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
