"""The classifier that judges generated images: a run of a work folder, by its features."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp

from experiments import ConfigError
from experiments.data.spec import Spec
from experiments.runs import folder
from experiments.runs.load import Predictor, load_predictor


def judge(run: str | os.PathLike[str], spec: Spec) -> Predictor:
    """The classifier of a work folder of `experiments.classify`, of the first method and seed.

    Args:
      run: the folder; a method may stand behind, as in "runs/judge:baseline".
      spec: of the data set whose images it is asked about.

    Raises:
      ConfigError: it is of images of another shape or of other classes, or has no features.
      ValueError: there is no such run, or several.

    Example:
      `judge("runs/mnist_judge", spec).network(image).features`
    """
    name, method = folder.parts(run)
    try:
        found = load_predictor(name, method or next(iter(folder.read(name).config["losses"])))
    except (OSError, ValueError) as error:
        raise ConfigError(f"No classifier of {str(run)!r} can judge: {error}") from error
    theirs, ours = ((tuple(each.shape), each.classes) for each in (found.spec, spec))
    if theirs != ours:
        raise ConfigError(
            f"The classifier of {str(run)!r} is of images {list(theirs[0])} of {theirs[1]} "
            f"classes, but these are {list(ours[0])} of {ours[1]}: train one on this data set."
        )
    one = jax.ShapeDtypeStruct((1, *ours[0]), jnp.float32)
    if jax.eval_shape(found.network, one).features is None:
        raise ConfigError(f"The classifier of {str(run)!r} has no features to compare images by.")
    return found
