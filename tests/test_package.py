"""What is shipped: versions, extras, what an installation brings, all files of the archive."""

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import regjax as rj

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What setuptools takes without being told, what is hidden and shipped, and what is made here.
ANYWAY = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"}
HIDDEN = {".ci", ".github", ".pre-commit-config.yaml"}
MADE = {"__pycache__", "build", "dist", "runs"}
TOP = ["configs", "experiments", "regjax", "tests"]


def output(*command: str | Path, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


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
    assert here | HIDDEN == taken | ANYWAY


def test_the_versions_of_python_agree():
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python" in line]
    assert PROJECT["requires-python"] == f">={named[0]}"
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert set(re.findall(r'python: "(.+)"', workflow)) == {named[0], named[-1]}
    assert f"python{named[-1]}" in (ROOT / ".ci" / "run").read_text()


def test_the_library_imports_what_it_depends_on_and_little_else():
    needed = {re.split(r"\W", line)[0] for line in PROJECT["dependencies"]}
    script = (
        f"import sys, {', '.join(sorted(needed))}; before = set(sys.modules); import regjax\n"
        "print(len(before), *set(sys.modules) - before)"
    )
    before, *new = output(sys.executable, "-c", script, cwd=ROOT).split()
    packages = {name.partition(".")[0] for name in new} - set(sys.stdlib_module_names)
    assert "regjax" in packages <= {"regjax", *needed}
    assert len(new) < 0.2 * int(before)  # time counted by modules: 1.2 times that of the others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("editable", "found"),
    [([], ["regjax"]), (["--editable"], ["configs", "experiments", "regjax", "tests"])],
)
def test_the_library_is_installed_alone_unless_editable(tmp_path, editable, found):
    unshipped = shutil.ignore_patterns(".*", "*.egg-info", *MADE)
    shutil.copytree(ROOT, tmp_path / "clone", ignore=unshipped)
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    output(*pip, *editable, tmp_path / "clone", cwd=tmp_path)
    script = f"print(*[name for name in {TOP} if importlib.util.find_spec(name)])"
    assert output(python, "-c", f"import importlib.util; {script}", cwd=tmp_path).split() == found
