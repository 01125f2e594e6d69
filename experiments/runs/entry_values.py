"""What entries of a config come to, where one depends on another or has several forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LINEAR = "linear"
SEED = "{seed}"
STREAMED_SIZE = 224


def image_size(config: Mapping[str, Any]) -> int:
    """The height and width that images are brought to; 0 leaves them as they are stored."""
    size: int = config["image_size"]
    return size or (STREAMED_SIZE if config["data"] == "stream" else 0)


def runs_at_once(config: Mapping[str, Any]) -> int:
    """The number of runs that are trained together; a stream trains one."""
    several: int = config["runs_at_once"]
    return 1 if config["data"] == "stream" else several


def held_out(config: Mapping[str, Any]) -> int:
    """The training images a class that are held out; what is trained again has them all."""
    count: int = config["validation_per_class"]
    return 0 if config["selection"] == "retrain" else count


def has_choices(config: Mapping[str, Any]) -> bool:
    """Whether a method has several strengths, of which one is chosen."""
    each = config["strengths"].values()
    return any(isinstance(some, tuple | list) and len(some) > 1 for some in each)


def own_validation(config: Mapping[str, Any]) -> bool:
    """Whether strengths are chosen by the data set's own validation split, if it has one."""
    return config["selection"] == "validation" and not config["validation_per_class"]


def joined(config: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """The data sets of `config.joined`, each with the seed that it is for, or None.

    Example:
      `joined({"joined": ("npz:copies{seed}",), "seeds": 2})` is
      `[("npz:copies0", 0), ("npz:copies1", 1)]`.
    """
    return _by_seed(config["joined"], config["seeds"])


def mixed(config: Mapping[str, Any]) -> list[tuple[str, int | None]]:
    """The data sets of `config.mixture`, each with the seed that it is for, or None.

    Example:
      `mixed({"mixture": {"made_{seed}": 0.25}, "seeds": 2})` is `[("made_0", 0), ("made_1", 1)]`.
    """
    return _by_seed(config["mixture"], config["seeds"])


def _by_seed(names: Iterable[str], seeds: int) -> list[tuple[str, int | None]]:
    found: list[tuple[str, int | None]] = []
    for name in names:
        if SEED in name:
            found += [(name.replace(SEED, str(seed)), seed) for seed in range(seeds)]
        else:
            found.append((name, None))
    return found


def growing(given: Mapping[str, Any] | tuple[str, ...] | list[str]) -> dict[str, Any]:
    """The curves of growing numbers by name.

    Args:
      given: curves in a section of each stage or by dotted names; or names alone, of numbers that
        grow linearly.

    Example:
      `growing({"isda": {"strength": "linear"}})` is `{"isda.strength": "linear"}`.
    """
    if isinstance(given, tuple | list):
        return {str(name): LINEAR for name in given}
    curves: dict[str, Any] = {}
    for name, curve in given.items():
        if hasattr(curve, "items"):  # a ConfigDict is no Mapping
            curves |= {f"{name}.{each}": inner for each, inner in growing(curve).items()}
        else:
            curves[str(name)] = curve
    return curves
