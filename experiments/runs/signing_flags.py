"""The flags by which a command line names a trained network, and how its images are moved."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from experiments import ConfigError
from experiments.runs import folder, signing
from experiments.runs.signing import Recipe, Source


def define() -> None:
    """Defines the flags of `opened` and `recipe`."""
    flags.DEFINE_string("method", None, "Of the network: one of the config's losses, by name.")
    flags.DEFINE_integer("train_size", None, "Of the network, where there are several.")
    flags.DEFINE_float("strength", None, "Of the network, where there are several.")
    flags.DEFINE_integer("seed", 0, "Of the network.")
    flags.DEFINE_list("iterations", [], "How many, such as 50,100; of each a copy.")
    flags.DEFINE_float("step", 1.0, "In grey levels squared; 65025 is 1 of pixels in [0, 1].")
    flags.DEFINE_enum("at", "iterate", ["iterate", "original"], "Where gradients are taken.")
    flags.DEFINE_float("momentum", 0.0, "The share of the last move that is added to the next.")
    flags.DEFINE_enum("normalize", None, ["rms", "l2", "max"], "What gradients are divided by.")
    flags.DEFINE_enum("reduce", "sum", ["sum", "mean"], "What is taken of the features.")
    flags.DEFINE_list("clip", [], "Bounds of grey levels, such as 0,255; or relu.")


def opened(folders: Sequence[str], usage: str, everything: bool = False) -> Source:
    """The network of the flags, and its images.

    Args:
      folders: what is not a flag, one work folder.
      usage: an example of the command.
      everything: as in `signing.open_source`.

    Raises:
      ConfigError: there is not one, or several methods.
      ValueError: as in `signing.open_source`.
      OSError: the data set is missing.
    """
    given = flags.FLAGS
    if len(folders) != 1:
        raise ConfigError(f"Name one work folder: {usage}")
    method = given.method or folder.read(folders[0]).only_method
    asked = {"train_size": given.train_size, "strength": given.strength, "seed": given.seed}
    return signing.open_source(folders[0], method, **asked, everything=everything)


def recipe(delta: bool = False) -> Recipe:
    """How images are moved, of the flags, or the moves alone are kept.

    Raises:
      ConfigError: they cannot be moved so.
    """
    given = flags.FLAGS
    numbers = given.iterations or (["1"] if delta else ["50", "100"])
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"--iterations are whole numbers, such as 50,100, not {numbers}.")
    return Recipe(
        iterations=tuple(map(int, numbers)),
        step=given.step,
        at=given.at,
        momentum=given.momentum,
        normalize=given.normalize,
        reduce=given.reduce,
        clip=_clip(given.clip),
        delta=delta,
    )


def _clip(text: list[str]) -> tuple[float, float] | str | None:
    if text in ([], ["relu"]):
        return "relu" if text else None
    try:
        low, high = map(float, text)
    except ValueError:
        raise ConfigError(f"--clip is LOW,HIGH, such as 0,255, or relu, not {text}.") from None
    return low, high
