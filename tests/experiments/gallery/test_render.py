"""Rendered notebooks: what is kept of an executed one, and what is said without Jupyter."""

import base64
import importlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import experiments.gallery
from experiments import ConfigError
from experiments.gallery import render

FOLDER = Path(experiments.gallery.__file__).parent


def test_a_tidy_notebook_is_the_same_in_every_run_and_smaller():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    noise[:20] = 10, 200, 30
    noise[5, 5:8] = 0, 100, 180
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    shown = {"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}
    code = {"cell_type": "code", "id": "f00", "metadata": {"execution": 1}, "outputs": [shown]}
    text = {"cell_type": "markdown", "id": "ba5", "metadata": {}, "source": "words"}
    notebook = {"metadata": {"language_info": {"version": "3.99"}}, "cells": [text, code]}
    render.tidy(notebook)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "language_info" not in notebook["metadata"]
    assert [cell["id"] for cell in notebook["cells"]] == ["cell-0", "cell-1"]
    assert code["metadata"] == {}
    small = shown["data"]["image/png"]
    assert len(small) < 0.7 * len(picture)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(small))).convert("RGB")).astype(int)
    assert np.abs(image[:20] - noise[:20]).max() < 25  # of few pixels too


def test_without_jupyter_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"by jupytext: run pip install .regjax\[notebooks\]"):
        render.rendered(FOLDER / "notebooks" / "compose.py")


def test_the_gallerys_page_names_what_there_is():
    page = (FOLDER / "README.md").read_text()
    named = {FOLDER / path for path in re.findall(r"\]\(([^)#:]+)\)", page)}
    assert [str(path) for path in named if not path.is_file()] == []
    shown = {*FOLDER.glob("pictures/*"), *FOLDER.glob("notebooks/*.ipynb")}
    assert shown <= named, "pictures and notebooks that the page does not show"
    commands = re.findall(r"python -m experiments\.gallery\.([\w.]+)", page)
    assert {"render", "corruption_sheet", "decision_boundary", "nfm_expansion"} <= set(commands)
    assert all((FOLDER / f"{name.replace('.', '/')}.py").is_file() for name in commands)
