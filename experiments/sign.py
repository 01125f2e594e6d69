"""Copies of a run's training images, moved to where its network's features are larger (SIGN).

    python -m experiments.sign runs/digits --method=baseline --train_size=20 --output=copies

writes two copies of every image that the run was trained on, after 50 and 100 iterations of
`rj.signed` in grey levels from 0 to 255, to a folder that is a data set:
`--config.dataset=npz:copies` trains on the copies alone, `--config.joined="('npz:copies',)"` on the
originals and all their copies. `--delta` keeps the moves alone, of test images too, divided by the
standard deviation of the training images'. `sign.json` says which network made them, how, and what
was watched meanwhile. Killed or stopped, the same command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from experiments import ConfigError
from experiments.runs import commands, folder, signing
from experiments.runs.copies import Copies
from experiments.runs.journal import alone
from experiments.runs.signing import Recipe, Source
from experiments.training import devices
from experiments.training.interruption import Interruption

USAGE = "python -m experiments.sign runs/digits --method=baseline --output=copies"


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


def opened(folders: Sequence[str], everything: bool = False, usage: str = USAGE) -> Source:
    """The network of the flags, and its images.

    Args:
      folders: what is not a flag, one work folder.
      everything: as in `signing.open_source`.
      usage: an example of the command.

    Raises:
      ConfigError: there is not one, or several methods.
      ValueError: as in `signing.open_source`.
      OSError: the data set is missing.
    """
    given = flags.FLAGS
    if len(folders) != 1:
        raise ConfigError(f"Name one work folder: {usage}")
    methods = [given.method] if given.method else list(folder.read(folders[0]).config["losses"])
    if len(methods) != 1:
        raise ConfigError(f"--method names one of {', '.join(methods)}: {usage}")
    asked = {"train_size": given.train_size, "strength": given.strength, "seed": given.seed}
    return signing.open_source(folders[0], methods[0], **asked, everything=everything)


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


def main(*folders: str) -> None:
    """Writes the copies that the command line names."""
    given = flags.FLAGS
    with commands.ends():
        devices.check()
        made = recipe(given.delta)
        source = opened(folders, given.all)
        output = given.output
        with alone(output, flag="--output"), Interruption() as interruption:
            copies = Copies(Path(output), source, made, given.dtype)
            if not copies.finished:
                with tqdm(total=copies.left, unit="image", dynamic_ncols=True) as bar:
                    copies.write(given.batch_size, interruption, bar)
        print(copies.table())
        print(f"Written to {output}: train on it by --config.dataset=npz:{output}.")


if __name__ == "__main__":
    define()
    flags.DEFINE_string("output", "copies", "Folder for the data set.")
    flags.DEFINE_bool("delta", False, "Whether to keep the moves alone, of test images too.")
    flags.DEFINE_bool("all", False, "Whether to copy training images that the run did not see too.")
    flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "How pixels are stored.")
    flags.DEFINE_integer("batch_size", 250, "Images that are moved together.", lower_bound=1)
    commands.run(main, arguments=True)
