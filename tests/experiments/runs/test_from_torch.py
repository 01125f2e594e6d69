"""Weights of torchvision become a run, and a run such weights; bit for bit.

Covers `weight_files.py` and the weights of `export.py` too.
"""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open

from experiments import ConfigError
from experiments.models import torch_names
from experiments.runs import export, from_torch, networks, weight_files
from experiments.runs.load import trained

pytestmark = pytest.mark.slow
MODEL = "mobilenet_v2(torch=True, width=0.1)"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = networks.builder(MODEL, (32, 32, 3), 11)
    like = jax.eval_shape(build, jax.random.key(0))
    draw = np.random.default_rng(0)
    of = (like.params, like.state)
    arrays = jax.tree.map(lambda x: draw.standard_normal(x.shape, np.float32), of)
    path = tmp_path_factory.mktemp("files") / "mine.npz"
    weight_files.save(path, "npz", torch_names.to_torch(MODEL, *arrays), {})
    return path


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    new = tmp_path_factory.mktemp("runs") / "imported"
    return from_torch.import_weights(file, new, model=MODEL, image_size=32)


@pytest.mark.parametrize("format", ["safetensors", "npz"])
def test_what_is_imported_is_exported_bit_for_bit(
    format: str, file: Path, folder: Path, tmp_path: Path
) -> None:
    found = trained(folder, "imported")
    assert (found.spec.classes, found.spec.shape) == (11, (32, 32, 3))
    assert found.config["mean"] == [0.485, 0.456, 0.406]
    path = export.weights(found, format, tmp_path / f"x.{format}")
    got, given = weight_files.read(path), weight_files.read(file)
    assert got.keys() == given.keys()
    for name in given:
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(got[name], given[name])
    if format == "safetensors":
        with safe_open(path, "numpy") as opened:
            assert opened.metadata()["model"] == MODEL


def test_a_new_folder_is_needed(file: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not empty: choose a new --workdir"):
        from_torch.import_weights(file, folder, model=MODEL)


def test_files_that_cannot_be_read_are_one_sentence(file: Path, tmp_path: Path) -> None:
    def read(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        from_torch.import_weights(tmp_path / name, tmp_path / "new", model=MODEL)

    with pytest.raises(ConfigError, match=r"which end in \.pth, \.pt, \.safetensors, \.npz"):
        read("x.bin", b"")
    for name in ("x.npz", "x.safetensors"):
        with pytest.raises(ConfigError, match=rf"{name} cannot be read .*: name a whole file"):
            read(name, b"half")
    with pytest.raises(ConfigError, match=r"cannot be imported: it is no resnet50 of torchvision"):
        from_torch.import_weights(file, tmp_path / "new", model="resnet50")
    assert not (tmp_path / "new").exists()


def test_without_torch_its_own_format_is_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"torch is needed .* or take safetensors or npz"):
        export.weights(trained(folder, "imported"), "torchvision", tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="torch is needed"):
        weight_files.read(tmp_path / "x.pth")


def test_a_run_of_another_network_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    found = trained(folder, "imported")
    other = found._replace(config={**found.config, "model": "resnet20"})
    with pytest.raises(ConfigError, match="cannot be exported: torchvision has no network like"):
        export.weights(other, "npz", tmp_path / "x.npz")
    with pytest.raises(ConfigError, match=r"--output=.* cannot be written"):
        export.weights(found, "npz", tmp_path / "none" / "x.npz")
