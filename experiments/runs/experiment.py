"""What a command brings to a comparison: how to read data, what to train on them, how to score."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import ConfigError
from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.data.streams import Streams
from experiments.evaluation.metrics import METRICS
from experiments.runs.entries import ENTRIES
from experiments.training.task import Evaluation, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.runs.load import Trained

Config = Mapping[str, Any]


class Picture(NamedTuple):
    """What a trained network shows.

    Attributes:
      figure: the picture.
      caption: what is in it, a sentence.
    """

    figure: Figure
    caption: str


Pictures = Callable[["Trained", Callable[[], Any]], Picture]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A kind of experiment; `comparison.compare` trains, tests and reports any of them.

    Attributes:
      name: the place where it is found again, `module:VARIABLE`; a work folder keeps it.
      parse: the function from an entry of `config.losses` to the objective; a ValueError or
        TypeError says what is wrong with it. `repr` of the objective parses back.
      read: the function from a config to its data, in memory or as streams.
      task: the function `(config, spec, steps_per_epoch) -> Task`.
      evaluation: the function `(config, spec) -> Evaluation` of the scores after training.
      score: the name of the main one of these scores, by which strengths are chosen.
      metrics: the function that returns the names that `config.metrics` and `config.columns` may
        have; none leaves the choice to the evaluation, and only the main score is a column.
      entries: the names of the special entries that it looks at, and of those that its configs have
        beside those of all.
      pictures: the function `(trained, data) -> Picture` of what a trained network shows, for the
        report and TensorBoard, or None; `data()` is what `read` returns, read once for all methods.
    """

    name: str
    parse: Callable[[str], Any]
    read: Callable[[Config], Dataset | Streams]
    task: Callable[[Config, Spec, float], Task]
    evaluation: Callable[[Config, Spec], Evaluation]
    score: str = "accuracy"
    metrics: Callable[[], Collection[str]] = tuple
    entries: Collection[str] = ()
    pictures: Pictures | None = None


def check_entries(config: Config, experiment: Experiment) -> None:
    """Looks whether all entries of a config are known, since others would change nothing.

    Raises:
      ConfigError: one is not; says which is near. Or a special one means nothing here.
    """
    known = (*(entry.name for entry in ENTRIES), *experiment.entries)
    for name in config:
        if name not in known:
            raise ConfigError(f"config.{name} is no entry of a config; {near(str(name), known)}.")
    for entry in ENTRIES:
        value = config.get(entry.name, entry.default)
        if entry.special and entry.name not in experiment.entries and value != entry.default:
            door = experiment.name.partition(":")[0]
            raise ConfigError(
                f"config.{entry.name} means nothing to {door}: it must stay {entry.default!r}, but "
                f"it is {value!r:.200}."
            )


def near(name: str, known: Collection[str]) -> str:
    """The entries whose names a misspelt or shortened one may stand for, in words.

    Example:
      >>> near("lr", ("learning_rate", "loss"))
      'the nearest are: learning_rate'
    """
    initials = [each for each in known if "".join(w[:1] for w in each.split("_")) == name]
    found = list(dict.fromkeys(initials + difflib.get_close_matches(name, known, 3, 0.5)))
    return f"the nearest are: {', '.join(found)}" if found else f"there are: {', '.join(known)}"


def check_metrics(config: Config, experiment: Experiment) -> None:
    """Looks at `config.metrics` and `config.columns`, before any data are read.

    Raises:
      ConfigError: a name is unknown, or its value is no single number and cannot be a column.
    """
    known = {*experiment.metrics(), experiment.score}
    for entry in ("metrics", "columns"):
        for name in config[entry]:
            if name not in known:
                names = ", ".join(sorted(known))
                raise ConfigError(f"config.{entry} names {name!r}; known are: {names}.")
    for name in config["columns"]:
        if name in METRICS and METRICS[name].larger_is_better is None:
            raise ConfigError(
                f"config.columns names {name!r}, which is not one number: it is in results.json."
            )


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
