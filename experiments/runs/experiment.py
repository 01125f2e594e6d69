"""What a command brings to a comparison: how to read data, what to train on them, how to score."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.data.streams import Streams
from experiments.training.task import Evaluation, Task

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A kind of experiment; `comparison.compare` trains, tests and reports any of them.

    Attributes:
      name: where it is found again, `module:VARIABLE`; a work folder keeps it.
      parse: the function from an entry of `config.losses` to the objective; a ValueError or
        TypeError says what is wrong with it. `repr` of the objective parses back.
      read: the function from a config to its data, in memory or as streams.
      task: `(config, spec, steps_per_epoch) -> Task`.
      evaluation: `(config, spec) -> Evaluation`, the scores after training.
      score: the main one of these scores, by which strengths are chosen.
    """

    name: str
    parse: Callable[[str], Any]
    read: Callable[[Config], Dataset | Streams]
    task: Callable[[Config, Spec, float], Task]
    evaluation: Callable[[Config, Spec], Evaluation]
    score: str = "accuracy"


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
      ValueError: there is none.
    """
    module, _, variable = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), variable)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the experiment {name!r} cannot be imported ({error}): start Python where its module "
            "is found."
        ) from None
    if not isinstance(found, Experiment):
        raise ValueError(f"{name!r} is no Experiment.")
    return found
