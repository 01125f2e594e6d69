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

from pathlib import Path

from absl import flags
from tqdm import tqdm

from experiments.runs import commands, signing_flags
from experiments.runs.copies import Copies
from experiments.runs.journal import alone
from experiments.training import devices
from experiments.training.interruption import Interruption

USAGE = "python -m experiments.sign runs/digits --method=baseline --output=copies"


def main(*folders: str) -> None:
    """Writes the copies that the command line names."""
    given = flags.FLAGS
    with commands.ends():
        devices.check()
        made = signing_flags.recipe(given.delta)
        source = signing_flags.opened(folders, USAGE, given.all)
        output = given.output
        with alone(output, flag="--output"), Interruption() as interruption:
            copies = Copies(Path(output), source, made, given.dtype)
            if not copies.finished:
                with tqdm(total=copies.left, unit="image", dynamic_ncols=True) as bar:
                    copies.write(given.batch_size, interruption, bar)
        print(copies.table())
        print(f"Written to {output}: train on it by --config.dataset=npz:{output}.")


if __name__ == "__main__":
    signing_flags.define()
    flags.DEFINE_string("output", "copies", "Folder for the data set.")
    flags.DEFINE_bool("delta", False, "Whether to keep the moves alone, of test images too.")
    flags.DEFINE_bool("all", False, "Whether to copy training images that the run did not see too.")
    flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "How pixels are stored.")
    # Of more, what a convolution puts aside is so large that every call maps its pages anew.
    flags.DEFINE_integer("batch_size", 100, "Images that are moved together.", lower_bound=1)
    commands.run(main, arguments=True)
