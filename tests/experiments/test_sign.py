"""The whole way of a user: a run, copies of its images, training on both, the moves alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.data import sources
from experiments.runs import folder

ROOT = Path(__file__).parents[2]
SMALL = (
    "--config=configs/digits.py:smoke",
    "--config.strengths={}",
    "--config.losses={'baseline': 'cross_entropy'}",
    "--config.train_sizes=(4,)",
    "--config.validation_per_class=2",
    "--config.runs_at_once=2",
    "--config.epochs=2",
)

pytestmark = pytest.mark.slow


def command(module: str, *arguments: Any, code: int = 0) -> str:
    line = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("sign") / "run"
    command("classify", *SMALL, f"--workdir={workdir}")
    return workdir


@pytest.fixture(scope="module")
def copies(run: Path) -> Path:
    """Of each seed its own."""
    for seed in (0, 1):
        output = run.parent / f"copies{seed}"
        options = ("--iterations=2,4", "--normalize=rms", f"--seed={seed}", f"--output={output}")
        said = command("sign", run, *options)
        assert "| 4 iterations |" in said
        assert f"--config.dataset=npz:{output}" in said
    return run.parent / "copies{seed}"


def test_copies_are_of_what_the_run_was_trained_on(run: Path, copies: Path) -> None:
    digits = sources.load("digits").train
    for seed in (0, 1):
        name = str(copies).format(seed=seed)
        found = sources.load(f"npz:{name}")
        assert np.bincount(found.train["label"]).tolist() == [8] * 10
        np.testing.assert_array_equal(digits["label"][found.source], found.train["label"])
        apart = np.abs(found.train["image"] - digits["image"][found.source] / 255)
        assert 0 < apart.mean() <= 4 / 255
        about = json.loads(Path(name, "sign.json").read_text())
        assert (about["seed"], about["train_size"], about["dataset"]) == (seed, 4, "digits")


def test_originals_and_copies_are_trained_on_together(run: Path, copies: Path) -> None:
    both = run.parent / "both"
    joined = f"--config.joined=('npz:{copies}',)"
    steps = {}
    for equal in (False, True):
        workdir = f"{both}{equal}"
        command(
            "classify", *SMALL, joined, f"--config.equal_updates={equal}", f"--workdir={workdir}"
        )
        records = folder.read(workdir).records
        assert len(records) == 2
        steps[equal] = records[0]["steps"]
    assert steps == {False: 2 * 5, True: 2 * 2}  # 120 and 40 images, 25 a step
    other = command("classify", *SMALL, joined.format(seed=0), f"--workdir={both}", code=2)
    assert "has no copies of" in other


def test_moves_alone_are_trained_on_and_scored(run: Path) -> None:
    output, workdir = run.parent / "moves", run.parent / "of_moves"
    command("sign", run, "--delta", "--all", f"--output={output}")
    found = sources.load(f"npz:{output}")
    digits = sources.load("digits")
    assert len(found.train["label"]) == len(digits.train["label"])
    np.testing.assert_allclose(found.train["image"].std(), 1, rtol=1e-3)
    np.testing.assert_array_equal(found.test["label"], digits.test["label"])
    command("classify", *SMALL, f"--config.dataset=npz:{output}", f"--workdir={workdir}")
    assert len(folder.read(workdir).records) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--iterations=x",), "--iterations are whole numbers, such as 50,100"),
        (("--clip=3",), "--clip is LOW,HIGH, such as 0,255, or relu"),
        (("--method=y",), "0 finished runs with"),
        (("more",), "Name one work folder"),
    ],
)
def test_wrong_options_are_one_sentence(run: Path, options: tuple[str, ...], says: str) -> None:
    said = command("sign", run, *options, f"--output={run.parent / 'wrong'}", code=2)
    assert says in said
    assert len(said.strip().splitlines()) == 1
