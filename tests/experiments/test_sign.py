"""The whole way of a user: a run, copies of its images, training on both, the moves alone.

Covers `signing_flags.py` too.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits
from experiments import ConfigError, classify
from experiments.data import sources
from experiments.runs import folder

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def small(**changes: Any) -> ConfigDict:
    config = digits.get_config("smoke")
    config.losses, config.strengths = ConfigDict({"baseline": "cross_entropy"}), ConfigDict()
    config.train_sizes, config.validation_per_class, config.strategy = (4,), 2, "map"
    config.update(changes)
    return config


def called(*arguments: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "experiments.sign", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def sign(*arguments: Any) -> str:
    done = called(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds."""
    workdir = tmp_path_factory.mktemp("sign") / "run"
    classify.compare(small(), workdir)
    return workdir


@pytest.fixture(scope="module")
def copies(run: Path) -> str:
    """Of each seed its own."""
    for seed in (0, 1):
        output = run.parent / f"copies{seed}"
        options = ("--iterations=2,4", "--normalize=rms", f"--seed={seed}", f"--output={output}")
        said = sign(run, *options)
        assert "| 4 iterations |" in said
        assert f"--config.dataset=npz:{output}" in said
    return f"npz:{run.parent}/copies{{seed}}"


def test_no_folder_for_the_copies_is_one_sentence(run: Path) -> None:
    done = called(run, "--output=")
    assert (done.returncode, done.stderr) == (2, "--output is empty: name a folder.\n")


def test_copies_are_of_what_the_run_was_trained_on(copies: str) -> None:
    digits = sources.load("digits").train
    for seed in (0, 1):
        name = copies.format(seed=seed)
        found = sources.load(name)
        assert np.bincount(found.train["label"]).tolist() == [8] * 10
        np.testing.assert_array_equal(digits["label"][found.source], found.train["label"])
        apart = np.abs(found.train["image"] - digits["image"][found.source] / 255)
        assert 0 < apart.mean() <= 4 / 255
        about = json.loads(Path(name.removeprefix("npz:"), "sign.json").read_text())
        assert (about["seed"], about["train_size"], about["dataset"]) == (seed, 4, "digits")


def test_originals_and_copies_are_trained_on_together(run: Path, copies: str) -> None:
    steps = {}
    for equal in (False, True):
        workdir = run.parent / f"both{equal}"
        classify.compare(small(joined=(copies,), equal_updates=equal), workdir)
        records = folder.read(workdir).records
        assert len(records) == 2
        steps[equal] = records[0]["steps"]
    assert steps == {False: 2 * 5, True: 2 * 2}  # of 120 and 40 images, 25 a step
    with pytest.raises(sources.DataError, match="has no copies of"):
        classify.compare(small(joined=(copies.format(seed=0),)), run.parent / "other")
    with pytest.raises(ConfigError, match="joined: "):
        classify.compare(small(), run.parent / "bothTrue")


def test_keys_of_images_and_labels_stay_those_of_the_config(tmp_path: Path) -> None:
    digits = sources.load("digits")
    both = {"train": digits.train, "test": digits.test}
    arrays = {
        f"{n}_{k}": x[w] for n, x in both.items() for k, w in (("x", "image"), ("y", "label"))
    }
    np.savez(tmp_path / "digits.npz", **arrays)
    config = small(dataset=f"npz:{tmp_path}/digits.npz", image_key="x", label_key="y", seeds=1)
    classify.compare(config, tmp_path / "run")
    sign(tmp_path / "run", "--iterations=1", f"--output={tmp_path}/copies")
    config.joined = (f"npz:{tmp_path}/copies",)
    classify.compare(config, tmp_path / "both")
    assert len(folder.read(tmp_path / "both").records) == 1


def test_moves_alone_are_trained_on_and_scored(run: Path) -> None:
    output, workdir = run.parent / "moves", run.parent / "of_moves"
    sign(run, "--delta", "--all", f"--output={output}")
    found, digits = sources.load(f"npz:{output}"), sources.load("digits")
    assert len(found.train["label"]) == len(digits.train["label"])
    np.testing.assert_allclose(found.train["image"].std(), 1, rtol=1e-3)
    np.testing.assert_array_equal(found.test["label"], digits.test["label"])
    classify.compare(small(dataset=f"npz:{output}"), workdir)
    assert len(folder.read(workdir).records) == 2
