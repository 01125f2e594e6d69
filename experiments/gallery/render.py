"""The notebooks with their results, as pages that GitHub shows: notebooks/*.ipynb.

    pip install "regjax[notebooks]"
    python -m experiments.gallery.render

Each is executed anew; of its pictures 256 colours are kept, so that the files stay small.
"""

from __future__ import annotations

import base64
import importlib
import io
from pathlib import Path
from typing import Any

from PIL import Image

from experiments import ConfigError
from experiments.report import files
from experiments.runs import commands

FOLDER = Path(__file__).parent / "notebooks"
COLOURS = 256


def rendered(path: Path) -> str:
    """Executes a notebook in percent format and returns it as a .ipynb file's text.

    Raises:
      ConfigError: a package is missing.
    """
    try:
        jupytext, nbclient = map(importlib.import_module, ("jupytext", "nbclient"))
        importlib.import_module("ipykernel")
    except ImportError as error:
        raise ConfigError(
            f'Notebooks are rendered by {error.name}: run pip install "regjax[notebooks]".'
        ) from None
    notebook = jupytext.read(path)
    nbclient.NotebookClient(notebook, kernel_name="python3", record_timing=False).execute()
    tidy(notebook)
    text: str = jupytext.writes(notebook, fmt="ipynb")
    return text


def tidy(notebook: Any) -> None:
    """Takes from an executed notebook what is new in every run, and shrinks its pictures.

    Args:
      notebook: as a file's JSON says, changed in place.
    """
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    for number, cell in enumerate(notebook["cells"]):
        cell["id"], cell["metadata"] = f"cell-{number}", {}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = _shrunk(data["image/png"])


def _shrunk(picture: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    buffer = io.BytesIO()
    # Of colours of few pixels too, such as a legend's, which the default would merge.
    few = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Writes the files beside the notebooks; what is missing ends it with one sentence."""
    for path in sorted(FOLDER.glob("[!_]*.py")):
        try:
            written = files.replace(path.with_suffix(".ipynb"), rendered(path).encode())
        except (ConfigError, OSError) as error:
            commands.stop(error)
        print(f"Written to {written}")


if __name__ == "__main__":
    commands.run(main)
