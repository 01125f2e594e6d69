"""Files of named arrays for programs in torch: `.pth`, `.safetensors` and `.npz`."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from experiments import ConfigError

Arrays = Mapping[str, np.ndarray]
# The endings of the formats' files, the first of which they get; torchvision's are torch's own.
ENDINGS = {"torchvision": (".pth", ".pt"), "safetensors": (".safetensors",), "npz": (".npz",)}


def check(format: str) -> None:
    """Looks whether a format can be read and written here.

    Raises:
      ConfigError: torch, which alone writes its files, is not installed.
    """
    if format == "torchvision" and importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "The package torch is needed for files of its own (.pth): pip install torch, or take "
            "safetensors or npz, which torch reads in a line."
        )


def save(path: Path, format: str, arrays: Arrays, about: Mapping[str, str]) -> None:
    """Writes a file in one of the formats of `ENDINGS`.

    Args:
      path: of the file.
      format: one of them.
      arrays: by name, in C order.
      about: words about them, which safetensors files keep as their metadata.

    Raises:
      ConfigError: as in `check`.
      OSError: it cannot be written.

    Example:
      `save(Path("x.npz"), "npz", {"fc.bias": np.zeros(10, np.float32)}, {})`
    """
    check(format)
    if format == "torchvision":
        import torch

        tensors = {name: torch.from_numpy(np.array(x)) for name, x in arrays.items()}
        with path.open("wb") as file:
            torch.save(tensors, file)
    elif format == "npz":
        with path.open("wb") as file:
            np.savez(file, **dict[str, Any](arrays))
    else:
        try:
            save_file(dict(arrays), path, metadata=dict(about))
        except SafetensorError as error:
            raise OSError(*error.args) from None


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, whose name's ending says its format.

    Raises:
      ConfigError: it has another ending, is not there, cannot be read, or as in `check`.

    Example:
      `read(Path("resnet50.safetensors"))["fc.weight"].shape == (1000, 2048)`
    """
    formats = [name for name, endings in ENDINGS.items() if path.suffix in endings]
    if not formats:
        known = ", ".join(each for endings in ENDINGS.values() for each in endings)
        raise ConfigError(f"{path} is none of the files that can be read, which end in {known}.")
    check(formats[0])
    try:
        return _read(path, formats[0])
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read ({error}): name a whole file.") from None


def _read(path: Path, format: str) -> dict[str, np.ndarray]:
    if format == "safetensors":
        return dict(load_file(path))
    if format == "npz":
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    import pickle

    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in tensors.items()}
    except (AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"torch finds no state dict in it: {str(error).splitlines()[0]}") from None
