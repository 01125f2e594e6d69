"""Where a command's figure goes: looked at before long work, written whole or not at all."""

import os
from pathlib import Path

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


def write(figure: Figure, output: str) -> Path:
    """Writes the figure as a PNG and returns its path.

    Raises:
      ConfigError: the file cannot be written.
    """
    try:
        return files.replace(Path(output), plots.render(figure, "png"))
    except OSError as error:
        raise ConfigError(f"--output={output} cannot be written ({error.strerror}).") from None
