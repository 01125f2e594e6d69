"""What a search has found: the expression, the history in a file, and a plot of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.report import files, plots
from experiments.runs.shown import shown
from experiments.search.spaces import Template
from experiments.search.study import Trial, best
from experiments.search.training import SCORE, SEARCH, Trainer

_SHOWN = shown(SEARCH.score)


def write(
    folder: Path, template: Template, trainer: Trainer, done: Sequence[Trial]
) -> dict[str, Path]:
    """Writes what is known so far.

    Args:
      folder: the work folder.
      template: what was searched.
      trainer: what trained the trials.
      done: the trials.

    Returns:
      The paths of "expression", the best loss, which any config takes; of "history", every trial
      with its validation and test scores; of the "plot".

    Raises:
      OSError: a file cannot be written.
    """
    test = f"test_{SEARCH.score}"
    rows = [
        {
            "trial": trial.number,
            "expression": trial.expression,
            SCORE: trial.value,
            test: trainer.score(trial, test),
        }
        for trial in done
    ]
    contents = {
        "expression": ("found.txt", f"{best(done).expression}\n".encode()),
        "history": ("history.json", (json.dumps(rows, indent=2) + "\n").encode()),
        "plot": ("history.png", plots.render(figure(done, start(template, done)), "png")),
    }
    paths = {}
    for kind, (name, content) in contents.items():
        try:
            paths[kind] = files.replace(folder / name, content)
        except OSError as error:
            raise OSError(
                f"{folder / name} cannot be written ({error.strerror or error}): make room there, "
                "and the same command goes on."
            ) from None
    return paths


def start(template: Template, done: Sequence[Trial]) -> Trial | None:
    """The trial of the config as it stands, if it was tried."""
    params = template.start()
    text = None if params is None else template.expression(params)
    return next((trial for trial in done if trial.expression == text), None)


def line(done: Sequence[Trial], trials: int) -> str:
    """How far a search is, in words."""
    top = best(done)
    return f"{len(done)} of {trials} trials, the best is number {top.number}: {_words(top.value)}"


def _words(value: Any) -> str:
    return f"validation {_SHOWN.name} {_SHOWN.scale * value:.2f}" + (" %" * _SHOWN.percent)


def summary(history: Sequence[dict[str, Any]], expression: str) -> str:
    """What came out, in words.

    Args:
      history: the rows of the history's file.
      expression: the best loss.
    """
    same = [row for row in history if row["expression"] == expression]
    top = max(same, key=lambda row: row[SCORE])
    test, unit = f"test_{SEARCH.score}", " %" * _SHOWN.percent
    return (
        f"Found by trial {top['trial']} of {len(history)}: {_words(top[SCORE])}, on the test "
        f"images, by which nothing was chosen, {_SHOWN.scale * top[test]:.2f}{unit}.\n{expression}"
    )


def figure(done: Sequence[Trial], first: Trial | None) -> Figure:
    """The score of every trial, and the best so far.

    Args:
      done: the trials.
      first: the one of the config as it stands.
    """
    drawn = Figure(figsize=(7.4, 3.6), layout="constrained")
    axes = drawn.add_subplot()
    values = [_SHOWN.scale * (trial.value or 0.0) for trial in done]
    place = range(1, len(done) + 1)
    axes.plot(place, values, "o", color="grey", markersize=3, label="a trial")
    axes.step(place, [*itertools.accumulate(values, max)], where="post", label="best so far")
    if first is not None:
        axes.axhline(
            _SHOWN.scale * (first.value or 0.0),
            color="black",
            linestyle="--",
            linewidth=1,
            label="the config as it stands",
        )
    axes.set_xlabel("trials")
    axes.set_ylabel(f"validation {_SHOWN.words}")
    axes.grid(alpha=0.3)
    plots.legend(drawn)
    return drawn
