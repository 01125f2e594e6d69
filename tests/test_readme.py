"""The Python of the five READMEs runs; README.md is short and names every public method."""

import importlib
import importlib.util
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import regjax as rj
from experiments import models
from experiments.data import sources
from experiments.evaluation import metrics, perturbations
from experiments.training import optimizers
from regjax.core.stages import REGISTRY

ROOT = Path(__file__).parents[1]
PAGES = {
    page: (ROOT / page).read_text()
    for page in (
        "README.md",
        "configs/README.md",
        "experiments/README.md",
        "experiments/benchmark/README.md",
        "regjax/README.md",
    )
}
README = PAGES["README.md"]
OPTIONAL = ("haiku", "equinox")
CONFIG = r"--config=((?:configs|experiments)/[\w/]+)\.py:?(\w*)"
NO_CONFIGS = ("__init__.py", "common.py")


@pytest.fixture(autouse=True)
def _nothing_registered_outlives_its_page() -> Iterator[None]:
    """Takes out again what a page's examples register; the stages are conftest's."""
    tables: tuple[dict[str, Any], ...] = (
        models.MODELS,
        sources.DATASETS,
        metrics.METRICS,
        perturbations.KINDS,
        optimizers.OPTIMIZERS,
    )
    before = [dict(table) for table in tables]
    yield
    for table, rest in zip(tables, before, strict=True):
        table.clear()
        table.update(rest)


def run(page: str, library: str | None = None) -> dict[str, Any]:
    """The names that a page's Python leaves, its blocks run one after the other.

    Blocks that import what need not be installed are left out, or with the first are all that runs.
    """
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    assert blocks
    special = {b: n for b in blocks for n in OPTIONAL if f"import {n} " in b}
    chosen = [b for b in blocks if special.get(b) == library or (library and b == blocks[0])]
    names: dict[str, Any] = {}
    with jax.numpy_rank_promotion("allow"):  # a reader's own code may broadcast
        for block in chosen:
            exec(compile(block, f"{page}, block {blocks.index(block) + 1}", "exec"), names)
    return names


def test_the_first_page():
    names = run("README.md")
    assert isinstance(names["loss"], rj.Loss)
    assert set(names["metrics"]) == {"cross_entropy", "double_backprop"}


def test_configs():
    assert len(run("configs/README.md")["runs"]) == 2 * (1 + 7 * 3)


def test_experiments():
    names = run("experiments/README.md")
    table = names["paths"]["table"].read_text()
    assert "ours" in table
    assert "mean confidence" in table


@pytest.mark.slow
def test_the_library():
    names = run("regjax/README.md")
    assert names["large_state"] is not None
    assert names["accuracy"] > 0.85
    given = (names["params"], names["start"], names["batch"], jax.random.key(0))
    with jax.numpy_rank_promotion("allow"):
        gradient, _ = jax.grad(names["objective"], has_aux=True)(*given)
    for name, moved in names["moved"].items():
        expected = names["params"][name] - 0.1 * gradient[name]
        np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONAL)
def test_other_libraries(name):
    pytest.importorskip(name)
    network = run("regjax/README.md", name)[name]
    assert network.frozen()(jax.numpy.ones((2, 8, 8, 1))).logits.shape == (2, 10)


def test_costs():
    names = run("experiments/benchmark/README.md")
    counted = names["flops"].flops(lambda x: x @ x.T @ x, names["x"])
    assert counted == 2 * (32 * 64 * 32 + 32 * 32 * 64)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing
    named = re.findall(r"`((?:configs|experiments|tests)/[\w/]+\.py)", PAGES[page])
    assert [path for path in named if not (ROOT / path).exists()] == []


def commands() -> Iterator[tuple[list[str], list[tuple[str, str]]]]:
    """Of every page and source file, the modules and the configs that its commands name."""
    folders = (ROOT / name for name in ("configs", "experiments", "regjax"))
    inside = (folder.rglob(kind) for folder in folders for kind in ("*.md", "*.py"))
    texts = itertools.chain(ROOT.glob("*.md"), *inside)
    for text in map(Path.read_text, texts):
        yield re.findall(r"-m (experiments[\w.]*)", text), re.findall(CONFIG, text)


def test_commands_name_what_exists():
    """Modules and configs, with arguments that the config takes."""
    found = list(commands())
    modules = {module for some, _ in found for module in some}
    assert [each for each in modules if not importlib.util.find_spec(each)] == []
    configs = {config for _, some in found for config in some}
    assert ("configs/isda/table1", "smoke") in configs
    for path, arg in sorted(configs):
        importlib.import_module(path.replace("/", ".")).get_config(arg)


def test_every_config_is_on_its_page():
    own = (path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py"))
    written = {path for path in map(str, own) if path.rsplit("/")[-1] not in NO_CONFIGS}
    line = re.compile(r"^\| `configs/.*$", re.MULTILINE)
    listed: set[str] = set()
    for row in line.findall(PAGES["configs/README.md"]):
        names = re.findall(r"`([\w/]+\.py)`", row.split("|")[1])
        folder = names[0].rpartition("/")[0]
        listed |= {name if "/" in name else f"{folder}/{name}" for name in names}
    assert listed == written


def test_the_first_page_is_short():
    assert README.count("\n") <= 200


def test_the_table_of_methods_is_complete():
    table = README.split("## The methods")[1].split("\n\n")[1]
    listed = re.findall(r"`(\w+)", re.sub(r"^(\|[^|]*\|).*", r"\1", table, flags=re.MULTILINE))
    own = {name for name, d in REGISTRY.items() if d.function.__module__.startswith("regjax.")}
    assert sorted(own) == sorted(listed)
