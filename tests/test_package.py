"""What is shipped: the version, the extras, and all files in the source archive."""

import tomllib
from pathlib import Path

import regjax as rj

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What setuptools takes without being told, and what is made here and not shipped.
ANYWAY = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}
MADE = {"__pycache__", "build", "dist", "runs"}


def test_the_version_is_that_of_the_project():
    assert rj.__version__ == PROJECT["version"]


def test_the_extras_agree_with_each_other():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["flax"]) <= set(extras["experiments"])
    (twelve,), (newest,) = extras["cuda12"], extras["cuda"]
    assert twelve.replace("cuda12", "cuda13") == newest
    assert f"jax{newest.partition(']')[2]}" in PROJECT["dependencies"]


def test_the_source_archive_holds_all_that_is_here():
    rules = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    taken = {name for rule, *names in rules if rule in ("graft", "include") for name in names}
    here = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    here = {name for name in here - MADE if not name.endswith(".egg-info")}
    assert here == taken | ANYWAY
