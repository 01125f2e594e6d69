"""Several folders beside each other: their results, and where their configs differ."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.report import scoring
from experiments.report.main_table import result
from experiments.runs.folder import RunFolder


def results(folders: Sequence[RunFolder]) -> list[tuple[str, int, list[str]]]:
    """Returns every method and training size with its main score in each folder, as text."""
    cells = [{(row.train_size, row.method): row for row in folder.chosen} for folder in folders]
    names = dict.fromkeys(itertools.chain.from_iterable(cells))
    scores = [folder.about.score for folder in folders]
    lines = []
    for size, method in sorted(names, key=lambda name: name[0]):
        pairs = zip(cells, scores, strict=True)
        lines.append((method, size, [result(c.get((size, method)), score) for c, score in pairs]))
    return lines


def headings(folders: Sequence[RunFolder]) -> str:
    """Returns what the results are, such as "Test accuracy (%)"; folders may differ in it."""
    each = (scoring.of(folder.config, folder.about).heading for folder in folders)
    return ", ".join(dict.fromkeys(each))


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
