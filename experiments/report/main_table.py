"""The table of a comparison: a line per method, the published numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.report import difference_table
from experiments.report.cells import Table, beside, cell, minus
from experiments.report.differences import Compared
from experiments.report.published import published
from experiments.report.scoring import Scoring, protocol
from experiments.runs.selection import Row, amount, rule
from experiments.runs.shown import shown

Config = Mapping[str, Any]
Column = tuple[str, list[str]]


def markdown(
    rows: Sequence[Row],
    chosen: Sequence[Row],
    config: Config,
    environment: Mapping[str, str],
    scoring: Scoring,
    compared: Compared,
    tested: tuple[Sequence[Table], Sequence[str]] = ((), ()),
    phases: Sequence[str] = (),
) -> str:
    """Returns all of table.md.

    Args:
      rows: a row of each method, training size and strength.
      chosen: the chosen ones among them.
      config: the comparison's config.
      environment: hardware and versions by name, for the footer.
      scoring: which scores are shown.
      compared: the methods against each other.
      tested: tables and sentences about perturbations, which follow.
      phases: paragraphs about the runs that chose the strengths, where those are others.
    """
    facts = (f"{name}: {value}" for name, value in environment.items() if name != "command")
    parts = [_table(chosen, config, scoring, compared).markdown()]
    parts += [difference_table.markdown(compared, config, scoring)]
    parts += [*phases, _unfinished(rows, config), scoring.majority]
    parts += [*(table.markdown() for table in tested[0]), *tested[1], "; ".join(facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def result(row: Row | None, score: str, bold: bool = False, whole: bool = True) -> str:
    """Returns a row's score as a cell, or what became of its runs.

    Args:
      row: None where no run has finished.
      score: the name of the score.
      bold: whether the mean is in bold.
      whole: whether the cell says n, the strength, and that runs diverged.
    """
    if row is None:
        return "-"
    if row.diverged and whole:
        return f"diverged ({row.diverged} of {row.n})"
    mean, std = row.scores.get(score, (None, None))
    n, decimals = row.n if whole else None, shown(score).decimals
    text = cell(mean, std, decimals=decimals, bold=bold, n=n)
    return text + (f", at {row.strength:g}" if whole and row.strength is not None else "")


def _table(chosen: Sequence[Row], config: Config, scoring: Scoring, compared: Compared) -> Table:
    cells = {(row.method, row.train_size): row for row in chosen}
    columns: list[Column] = []
    for size in config["train_sizes"]:
        rows = [cells.get((method, size)) for method in config["losses"]]
        columns += _columns(size, rows, config, scoring, compared)
    names = ["method", *(name for name, _ in columns)]
    lines = [
        (method, [column[i] for _, column in columns]) for i, method in enumerate(config["losses"])
    ]
    return Table(_caption(compared, config, scoring), names, lines)


def _columns(
    size: int,
    rows: Sequence[Row | None],
    config: Config,
    scoring: Scoring,
    compared: Compared,
) -> Iterator[Column]:
    """Of a training size the columns of its scores, the paper's after the main one."""
    for i, score in enumerate(scoring.columns):
        several = f": {shown(score).words}" if len(scoring.columns) > 1 else ""
        best = compared.best.get((score, size), frozenset())
        cells = [result(row, score, bool(row and row.method in best), i == 0) for row in rows]
        yield amount(size) + several, cells
        paper = published(config) if score == scoring.score else {}
        theirs = [paper.get((method, size)) for method in config["losses"]]
        if any(theirs):
            decimals = scoring.main.decimals
            pairs = zip(theirs, rows, strict=True)
            yield "paper", [_beside(value, row, decimals) for value, row in pairs]


def _beside(value: tuple[float, float | None] | None, row: Row | None, decimals: int) -> str:
    if value is None:
        return "-"
    difference = minus(row.mean if row else None, value[0])
    return beside(*value, difference=difference, decimals=decimals)


def _caption(compared: Compared, config: Config, scoring: Scoring) -> str:
    bold = difference_table.bold(compared, config)
    text = (
        f"{_listed(scoring)} on {config['dataset']} with {config['model']}: mean ± sample standard "
        f"deviation over n seeds, {bold}. {config['epochs']} epochs, "
        f"batches of {config['batch_size']}, {config['optimizer']} at {config['learning_rate']:g}. "
        f"{protocol(config)}"
    )
    most = max(
        (len(config["strengths"].get(method) or ()) for method in config["losses"]), default=0
    )
    if most == 1 and not config["validation_per_class"]:
        text += ' "At": the strength.'
    elif most:
        held = config["validation_per_class"]
        chosen = rule(config["selection"], scoring.score, scoring.scored, bool(held))
        of = " of the images" if config.get("validation_included") else ""
        held_out = f" ({held}{of} per class, not trained on)"
        held_out = held_out if config["selection"] == "validation" and held else ""
        text += f' "At": the strength, chosen for {chosen}{held_out}.'
    if not published(config):
        return text
    return (
        f"{text} Paper (n={config['published_seeds']}): {config['published_source']}. In "
        "parentheses, ours minus the paper's."
    )


def _listed(scoring: Scoring) -> str:
    """The columns in words, such as "Test accuracy (%) and expected calibration error (%)"."""
    *most, last = (shown(score).words for score in scoring.columns)
    words = f"{', '.join(most)} and {last}" if most else last
    return f"{scoring.scored.capitalize()} {words}"


def _unfinished(rows: Sequence[Row], config: Config) -> str:
    each = (len(config["strengths"].get(m) or (None,)) for m in config["losses"])
    strengths = len(config["losses"]) if config["selection"] == "retrain" else sum(each)
    expected = strengths * len(config["train_sizes"]) * config["seeds"]
    done = sum(row.n for row in rows)
    return f"Unfinished: {done} of {expected} runs." if done < expected else ""
