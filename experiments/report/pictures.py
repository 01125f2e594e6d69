"""Pictures that trained networks show: drawn once, kept in the work folder, put on the page.

Of each method one, of the first training size, the chosen strength and seed 0. `pictures` in the
work folder holds it as PNG, and as JSON what it is of; it is drawn again when it is of another run.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from experiments.report import files, plots
from experiments.runs import folder as run_folder
from experiments.runs import load
from experiments.runs.experiment import Config, Experiment, Picture, Pictures
from experiments.runs.folder import RunFolder
from experiments.runs.groups import LABELS
from experiments.runs.lines import read_object
from experiments.runs.selection import Record, amount, is_diverged
from experiments.training import record as records
from experiments.training.interruption import Interruption, StoppedError
from experiments.training.progress import progress
from experiments.training.record import slug

FOLDER = "pictures"
# What tells a run from others, and from itself where it was trained anew.
OF = (*LABELS, "loss", "group", "steps", "train_loss")


def write(
    workdir: str | os.PathLike[str],
    config: Config,
    experiment: Experiment,
    interruption: Interruption,
) -> None:
    """Draws the pictures that are missing; no data are read where none is.

    One that cannot be drawn is said in one sentence on stderr, and the rest go on.

    Args:
      workdir: of a comparison.
      config: of the comparison.
      experiment: of the comparison.
      interruption: looked at before each.

    Raises:
      StoppedError: a signal was received before the last one.
    """
    if experiment.pictures is None:
        return
    found = run_folder.read(workdir)
    missing = [
        record for record in _shown(found) if _about(found, record["method"], record) is None
    ]
    if missing and jax.process_count() > 1 and jax.local_device_count() % config["fsdp"]:
        _say(
            "The report lacks pictures, since each network is spread over several processes by "
            f"config.fsdp={config['fsdp']}: the same command in one process draws them."
        )
        return
    data = functools.cache(functools.partial(experiment.read, config))
    with progress(len(missing), "picture") as bar:
        for record in missing:
            if interruption.received:
                raise StoppedError(interruption.received, 0)
            _draw(Path(workdir), experiment.pictures, record, data)
            bar.update()


def _draw(workdir: Path, show: Pictures, record: Record, data: Callable[[], Any]) -> None:
    try:
        run = {name: record[name] for name in LABELS}
        _keep(workdir, record, show(load.trained(workdir, **run), data))
    except Exception as error:  # whatever it is, the numbers are there and the report goes on
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        _say(
            f"The report lacks the picture of {record['method']}, which could not be drawn "
            f"({type(error).__name__}: {reason}): the same command tries again."
        )


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def stored(folder: RunFolder) -> Iterator[dict[str, str]]:
    """Yields the title, the source and the words of each picture, in the order of the methods."""
    for method in folder.config["losses"]:
        about = _about(folder, method)
        if about is not None:
            data = base64.b64encode(_path(folder.name, method).read_bytes()).decode()
            source = f"data:image/png;base64,{data}"
            yield {"title": method, "source": source, "text": str(about.get("caption", ""))}


def _shown(found: RunFolder) -> Iterator[Record]:
    """The finished runs that are shown, one a method at most."""
    size, score = found.config["train_sizes"][0], found.about.score
    chosen = {row.method: row.strength for row in found.chosen if row.train_size == size}
    for record in found.records:
        mine = record["train_size"] == size and record["seed"] == 0
        mine = mine and chosen[record["method"]] == record["strength"]
        if mine and "group" in record and not is_diverged(record, score):
            yield record


def _path(folder: str | os.PathLike[str], method: str) -> Path:
    """Of a method's picture; methods whose names differ do not share one."""
    name = slug(method)
    name = name if name == method else f"{name}-{zlib.crc32(method.encode('utf-8', 'replace')):08x}"
    return Path(folder, FOLDER, f"{name}.png")


def _about(found: RunFolder, method: str, record: Record | None = None) -> dict[str, Any] | None:
    """What is known of a method's picture; None where there is none, or none of that run."""
    path = _path(found.name, method)
    about = read_object(path.with_suffix(".json"))
    same = about.get("method") == method and (record is None or about.items() >= _of(record))
    return about if same and path.exists() else None


def _of(record: Record) -> Any:
    return {name: record.get(name) for name in OF}.items()


def _keep(workdir: Path, record: Record, picture: Picture) -> None:
    path = _path(workdir, record["method"])
    png = plots.render(picture.figure, "png")
    strength = "" if record["strength"] is None else f", strength {record['strength']:g}"
    run = f"{amount(record['train_size'])}{strength}, seed 0, {record['steps']} steps"
    about = dict(_of(record)) | {"caption": f"{picture.caption} ({run})"}
    path.parent.mkdir(exist_ok=True)
    group = workdir / "training" / record["group"]
    label = {name: record[name] for name in LABELS}
    records.picture(group, label, record["steps"], png)
    files.replace(path, png)
    # The last of all: without it the picture counts as missing.
    files.replace(path.with_suffix(".json"), json.dumps(about, indent=2).encode())
