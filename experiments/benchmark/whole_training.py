"""What whole trainings cost, with those of the generators whose images they see.

    python -m experiments.benchmark.whole_training runs/table5/mnist*

prints a row for each method of finished work folders of `experiments.classify`: the steps of one
run, the FLOPs of their products (`flops.py`), and, where `config.mixture` names images that
`experiments.generate.samples` has written, the steps of their generator and its FLOPs, those of the
images too. "extra" is what all that costs more than a run of the first method of the first folder,
in multiples of it. It is counted, so that other work on the machine makes no difference.

A run has its generator for itself, as where there is one for each seed. Evaluations do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import ConfigError
from experiments.benchmark.flops import flops
from experiments.benchmark.isda import most_pieces
from experiments.benchmark.tables import table
from experiments.runs import commands, folder, samples
from experiments.runs.entry_values import mixed
from experiments.runs.generator import generator
from experiments.runs.lines import read_object
from experiments.runs.load import Trained, trained
from experiments.training.games import Game
from experiments.training.task import Metrics, TrainState, blank

NPZ, SEED = "npz:", 0
TERA = 1e12
COLUMNS = {"folder": "s", "method": "s", "steps": "d", "tflop": ".2f"}
COLUMNS |= {"generator_steps": "d", "generator_tflop": ".2f", "extra": ".3f"}


def of_training(found: Trained) -> int:
    """FLOPs of the products in all steps of a run.

    The critic moves at every step, the generator at as many as the run has counted. Of ISDA it is
    the most, when a batch has as many classes as can be.

    Args:
      found: the run, of `experiments.classify` or `experiments.generate`.
    """
    size, task = found.config["batch_size"], found.task
    batch = jax.eval_shape(lambda: task.batch(blank(found.spec.example, size)))
    objective = found.experiment.parse(found.loss)
    passes = most_pieces(size, found.spec.classes)

    def stepped(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        following: tuple[TrainState, Metrics] = task.step(state, objective, batch, np.uint32(SEED))
        return following

    def judged(state: TrainState, batch: Any) -> tuple[Any, Metrics]:
        following, metrics = stepped(state, batch)
        return following.params["critic"], metrics  # for which the generator need not move

    whole = flops(stepped, found.state, batch, passes=passes)
    if not isinstance(task, Game):
        return found.steps * whole
    critic = flops(judged, found.state, batch)
    return found.steps * critic + int(found.state.loss_state.taken) * (whole - critic)


def of_images(found: Trained, count: int) -> int:
    """FLOPs of the products in so many images of a run's generator."""
    make = generator(found)
    one = (jax.random.split(jax.random.key(SEED), 1), jnp.zeros(1, jnp.int32))
    return count * flops(lambda make, *given: make.drawn(*given), make, *one)


def generators(found: Trained) -> Iterator[tuple[Trained, int]]:
    """The runs whose images a run has seen, and how many images were made of each.

    Raises:
      ConfigError: the images, or the run that made them, are not there any more.
    """
    for name, seed in mixed(found.config):
        path = Path(name.removeprefix(NPZ))
        if not name.startswith(NPZ) or seed not in (None, found.run.seed):
            continue
        if not path.exists():
            raise ConfigError(
                f"{name} is named by config.mixture, but is not there: start this command where "
                "the training was started."
            )
        if about := read_object(path / samples.ABOUT):
            which = {each: about[each] for each in ("method", "train_size", "strength", "seed")}
            made = trained(about["run"], **which)
            yield made, made.spec.classes * (about["per_class"] + about["test_per_class"])


def rows(names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """A row of `COLUMNS` for each method of the folders, of its first run.

    Raises:
      ValueError: a folder has no such runs yet, or several of a method and seed.
    """
    plain = 0
    for name in names:
        for method in folder.read(name).config["losses"]:
            found = trained(name, method, seed=SEED)
            own, made = of_training(found), list(generators(found))
            more = sum(of_training(run) + of_images(run, count) for run, count in made)
            plain = plain or own
            yield {
                "folder": name,
                "method": method,
                "steps": found.steps,
                "tflop": own / TERA,
                "generator_steps": sum(run.steps for run, _ in made),
                "generator_tflop": more / TERA,
                "extra": (own + more) / plain - 1,
            }


def main(*names: str) -> None:
    """Prints the table."""
    with commands.ends():
        if not names:
            raise ConfigError("Name work folders of experiments.classify, the plain one first.")
        print(table(list(rows(names)), COLUMNS))


if __name__ == "__main__":
    commands.run(main, arguments=True)
