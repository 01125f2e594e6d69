"""The generators of a work folder of `experiments.generate`."""

from __future__ import annotations

import os

from experiments.runs import folder
from experiments.runs.load import Trained, trained
from experiments.training.generator import Generator

__all__ = ["Generator", "generator", "load"]


def load(run: str | os.PathLike[str], method: str = "", seed: int = 0) -> Generator:
    """The generator of a run, out of a work folder of `experiments.generate`.

    Args:
      run: the folder.
      method: one of the config's losses, by name; "" where there is only one.
      seed: of the run.

    Raises:
      ValueError: there is no such run, or several, or it trained no generator.

    Example:
      `load("runs/generators", "cgan").draw(jax.random.key(0), jnp.arange(10))`
    """
    return generator(trained(run, method or folder.read(run).only_method, seed=seed))


def generator(found: Trained) -> Generator:
    """The generator of a run that `load.trained` has read; ValueError where it has none."""
    make = getattr(found.task, "generator", None)
    if make is None:
        raise ValueError("the run trained no generator: only those of experiments.generate do.")
    made: Generator = make(found.state)
    return made
