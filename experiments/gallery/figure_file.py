"""Where a command's figure goes: looked at before long work, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments import ConfigError
from experiments.report import files, plots


def check(output: str) -> None:
    """Refuses a path at which no PNG can be written.

    Raises:
      ConfigError: it has another ending, its folder does not exist or may not be written, or it is
        a folder.
    """
    path = Path(output)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--output={output} must end with .png, since a PNG is written.")
    if not path.parent.is_dir():
        raise ConfigError(
            f"--output={output} cannot be written, since there is no folder {path.parent}: make it "
            "or choose another."
        )
    if path.is_dir():
        raise ConfigError(f"--output={output} is a folder: name a file in it.")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--output={output}: you may not write in {path.parent}, choose another.")


def write(figure: Figure, output: str, numbers: Any = None) -> Path:
    """Writes the figure as a PNG, and its numbers as JSON beside it; returns the PNG's path.

    Raises:
      ConfigError: a file cannot be written.
    """
    try:
        path = files.replace(Path(output), plots.render(figure, "png"))
        if numbers is not None:
            files.replace(path.with_suffix(".json"), json.dumps(numbers, indent=2).encode())
        return path
    except OSError as error:
        raise ConfigError(f"--output={output} cannot be written ({error.strerror}).") from None
