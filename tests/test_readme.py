"""The Python of the four READMEs runs; README.md is short and names every public method."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
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
    )
}
README = PAGES["README.md"]


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


def run(page: str) -> dict[str, Any]:
    """The names that a page's Python leaves, its blocks run one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    with jax.numpy_rank_promotion("allow"):  # a reader's own code may broadcast
        for number, block in enumerate(blocks, 1):
            exec(compile(block, f"{page}, block {number}", "exec"), names)
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
    assert names["large_state"] is not None


def test_costs():
    run("experiments/benchmark/README.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", PAGES[page])
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing
    named = re.findall(r"`((?:configs|experiments|tests)/[\w/]+\.py)", PAGES[page])
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_first_page_is_short():
    assert README.count("\n") <= 200


def test_the_table_of_methods_is_complete():
    table = README.split("## The methods")[1].split("\n\n")[1]
    listed = re.findall(r"`(\w+)", re.sub(r"^(\|[^|]*\|).*", r"\1", table, flags=re.MULTILINE))
    own = {name for name, d in REGISTRY.items() if d.function.__module__.startswith("regjax.")}
    assert sorted(own) == sorted(listed)
