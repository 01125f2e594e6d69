"""Writes what a trained generator makes as a data set.

    python -m experiments.generate.samples runs/generators --output=samples --per_class=1000

writes so many images of each class to a folder of arrays, and `samples.json`, which says which run
they are of. `--config.dataset=npz:samples` trains on them alone, and

    config.mixture = ConfigDict({"npz:samples": 1 / 6})

takes a sixth of every batch from them, 21 of 128. The folder appears when all is written.
"""

from __future__ import annotations

from absl import flags

from experiments import ConfigError
from experiments.runs import commands
from experiments.runs.samples import Recipe, write
from experiments.training import devices

USAGE = "python -m experiments.generate.samples runs/generators --output=samples"


def main(*folders: str) -> None:
    """Writes the samples that the command line names."""
    given = flags.FLAGS
    with commands.ends():
        if len(folders) != 1:
            raise ConfigError(f"Name one work folder: {USAGE}")
        devices.check()
        recipe = Recipe(given.per_class, given.test_per_class, given.key)
        which = {"train_size": given.train_size, "strength": given.strength, "seed": given.seed}
        output = write(folders[0], given.output, recipe, method=given.method or "", **which)
        print(f"Written to {output}: mix them in by config.mixture = {{'npz:{output}': 1 / 6}}.")


if __name__ == "__main__":
    flags.DEFINE_string("method", None, "Of the generator: one of the config's losses, by name.")
    flags.DEFINE_integer("train_size", None, "Of the generator, where there are several.")
    flags.DEFINE_float("strength", None, "Of the generator, where there are several.")
    flags.DEFINE_integer("seed", 0, "Of the generator.")
    flags.DEFINE_string("output", "samples", "Folder for the data set.")
    flags.DEFINE_integer("per_class", 1000, "Training images of each class.", lower_bound=1)
    flags.DEFINE_integer("test_per_class", 100, "Test images of each class.", lower_bound=1)
    flags.DEFINE_integer("key", 0, "Another one gives other images.", lower_bound=0)
    commands.run(main, arguments=True)
