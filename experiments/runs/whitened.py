"""whitening.npz: what whitening learnt from the training images, kept in the work folder.

A run that goes on, and a network that is loaded, see what it was trained with, to the last bit.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from experiments import ConfigError
from experiments.data import whitening
from experiments.data.dataset import Dataset
from experiments.data.whitening import Zca
from experiments.training import devices

Config = Mapping[str, Any]

FILE = "whitening.npz"
# The entries that what is learnt depends on.
ENTRIES = (
    *("whiten", "mean", "std", "dataset", "mixture", "joined", "image_size", "resize"),
    *("image_key", "label_key", "test_share", "split_seed", "broken"),
)

# By data set, since comparisons of two phases read it once and minutes pass with large images.
_LEARNT: WeakKeyDictionary[Dataset, tuple[str, Zca]] = WeakKeyDictionary()


def of(config: Config, data: Any, folder: Path | None = None) -> Zca | None:
    """What the whitening of a config has learnt: of the folder, or else of the data now.

    Args:
      config: with all entries.
      data: in memory; a stream has none to learn from, which the config's check has refused.
      folder: the work folder; None where there is none.

    Returns:
      None where the config has nothing to learn.

    Raises:
      ConfigError: the folder's file is damaged.
      ValueError: the images are too large.
    """
    if not whitening.has_zca(config["whiten"]):
        return None
    found = read(folder, config) if folder else None
    if found is None and devices.is_first():
        found = _fit(config, data)
    return devices.from_first(found, whitening.blank(data.train["image"].shape[1:]))


def _fit(config: Config, data: Dataset) -> Zca:
    asked = _asked(config)
    if data not in _LEARNT or _LEARNT[data][0] != asked:
        given = (config["mean"] or None, config["std"] or None)
        _LEARNT[data] = asked, whitening.fit(config["whiten"], data.train["image"], *given)
    return _LEARNT[data][1]


def _asked(config: Config) -> str:
    return json.dumps([config[name] for name in ENTRIES])


def prepared(config: Config, zca: Zca, image: np.ndarray) -> dict[str, np.ndarray]:
    """Stored images, whitened once for all steps, as an entry of what is stored."""
    given = (config["mean"] or None, config["std"] or None)
    function = whitening.prepare(config["whiten"], zca, *given)
    return {whitening.PREPARED: whitening.prepared(function, image)}


def announced(config: Config, zca: Zca | None) -> str:
    """A line about what was learnt; "" where nothing was.

    Lengths are what the radius of an adversarial term is measured against, and the matrix's
    checksum tells whether two machines whiten alike.
    """
    if zca is None:
        return ""
    return (
        f"Whitened by {config['whiten']}: images have a mean length of {zca.length:.4g} "
        f"(matrix {zlib.crc32(zca.matrix.tobytes()):08x})."
    )


def read(folder: Path, config: Config | None = None) -> Zca | None:
    """What the folder's file has; None where there is no file, or one of another config.

    Raises:
      ConfigError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as stored:
            zca = Zca(stored["mean"], stored["matrix"], float(stored["length"]))
            asked = str(stored["asked"])
    except Exception as error:  # a damaged archive fails in many ways
        raise ConfigError(
            f"{path} is damaged ({type(error).__name__}): delete it, and the same command learns "
            "it anew from the training images."
        ) from None
    return zca if config is None or asked == _asked(config) else None


def kept(config: Config, folder: Path) -> Zca | None:
    """What a folder's networks were trained with; None where its config has nothing to learn.

    Raises:
      ConfigError: the file is damaged.
    """
    return read(folder) if whitening.has_zca(config["whiten"]) else None


def write(folder: Path, config: Config, zca: Zca | None) -> None:
    """Writes the file, whole or not at all; nothing where it is there or there is nothing."""
    if zca is None or read(folder, config) is not None:
        return
    part = folder / f"{FILE}.part"
    with part.open("wb") as file:
        np.savez(file, **zca._asdict(), asked=_asked(config))
    part.replace(folder / FILE)
