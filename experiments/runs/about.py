"""about.json: what must be known of a work folder's experiment and data to load its networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from experiments import ConfigError
from experiments.data import spec
from experiments.data.spec import Spec

FILE = "about.json"


class About(NamedTuple):
    """What a folder holds runs of.

    Attributes:
      experiment: its name, `module:VARIABLE`.
      score: the name of its main score.
      spec: the description of its data, or None in folders of older versions.
    """

    experiment: str = "experiments.classify:CLASSIFICATION"
    score: str = "accuracy"
    spec: Spec | None = None


def write(folder: Path, about: About) -> None:
    """Writes the file, whole or not at all."""
    known = {} if about.spec is None else about.spec.to_json()
    text = json.dumps({"experiment": about.experiment, "score": about.score, **known}, indent=2)
    part = folder / f"{FILE}.part"
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(folder / FILE)


def read(folder: Path) -> About:
    """Reads the file; where it is missing or damaged, what older folders are taken for."""
    try:
        stored: dict[str, Any] = json.loads((folder / FILE).read_bytes())
        return About(stored["experiment"], stored["score"], spec.from_json(stored))
    except (OSError, ValueError, KeyError, TypeError):
        return About()


def check(folder: Path, about: About) -> None:
    """Refuses a folder whose runs are of another experiment.

    Raises:
      ConfigError: they are.
    """
    stored = read(folder)
    if (folder / FILE).exists() and stored[:2] != about[:2]:
        raise ConfigError(
            f"{folder} holds runs of another experiment ({stored.experiment}, scored by "
            f"{stored.score}), now {about.experiment}, {about.score}: choose another --workdir."
        )
