"""One HTML page about any number of run folders: it opens from disk and needs no network.

    python -m experiments.report runs/a runs/b --output=report.html

The folders are those of `python -m experiments.classify`, finished or not, of one config or of
several. The page is page.html.jinja, what it says of a folder comes from section.py, and what a
folder holds is read in experiments/runs/folder.py.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import jinja2
import markupsafe
from absl import flags

from experiments import ConfigError
from experiments.report import by_class, files, section, side_by_side
from experiments.runs import commands, imports
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunFolder
from experiments.runs.selection import amount

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
    found = [run_folder.read(folder) for folder in folders]
    for folder in found:
        _import(folder)
    page = render(found, os.fspath(output))
    try:
        # "replace": a name may hold half of a surrogate pair, which no encoding has.
        return files.replace(Path(output), page.encode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(
            f"--output={output} cannot be written ({error.strerror}): choose a file in a folder "
            "that exists and that you may write."
        ) from None


def _import(folder: RunFolder) -> None:
    """Imports what says how scores of somebody's own are shown; without it a page shows numbers."""
    try:
        imports.load(folder.config)
    except ConfigError as error:
        print(f"{folder.name} is shown without a module of its own: {error}", file=sys.stderr)


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
    environment.filters["bold"] = _bold
    command = ["python", "-m", "experiments.report", *(f.name for f in folders)]
    return environment.get_template("page.html.jinja").render(
        folders=[section.of(folder) for folder in folders],
        differences=side_by_side.differences(folders),
        side_by_side=side_by_side.results(folders),
        headings=side_by_side.headings(folders),
        steps=by_class.STEPS,
        command=shlex.join([*command, f"--output={output}"]),
    )


def _bold(text: str) -> markupsafe.Markup:
    """The text with what stands between pairs of stars in bold."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped))


def main(*folders: str) -> None:
    """Writes the page about the folders that the command line names."""
    try:
        path = write(folders, flags.FLAGS.output)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    print(f"Written to {path}")
