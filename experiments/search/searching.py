"""A whole search: the config's trials are asked for, trained and told, and the best is written."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import ConfigError
from experiments.runs import imports
from experiments.runs.experiment import check_entries, near
from experiments.runs.journal import alone
from experiments.search import found, spaces
from experiments.search.study import SAMPLERS, Study, Trial, kept, run
from experiments.search.training import SEARCH, Trainer
from experiments.training.interruption import Interruption
from experiments.training.progress import progress

SETTINGS = {"spaces": {}, "trials": 100, "sampler": "tpe", "seed": 0}


def search(config: ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Path]:
    """Searches, or goes on with a search.

    Args:
      config: with the entries of `experiments.runs.entries`, one loss with names in braces, and
        `search`, a section with `spaces` and maybe `trials`, `sampler` ("tpe" or "random") and
        `seed`.
      workdir: folder of the results, made if missing.

    Returns:
      The paths of the files by name, see `found.write`.

    Raises:
      StoppedError: a signal was received; all is saved.
      ConfigError: the config or the folder cannot be used; raised before anything is trained.
      OSError: the data set is missing; says how to prepare it. Or the disk is full: nothing
        is lost.

    Example:
      `search(configs.sign.search.get_config("smoke"), "runs/search")["expression"]`
    """
    plain = config.to_dict()
    check_entries(plain, SEARCH)
    settings = _settings(plain.get("search"))
    imports.load(plain)
    method, template = spaces.template(plain["losses"], settings["spaces"])
    folder = Path(workdir)
    with alone(workdir), kept(folder), Interruption() as interruption:
        trainer = Trainer(plain, method, template, folder, interruption)
        of = {name: settings[name] for name in ("sampler", "seed")}
        study = Study(template, **of, path=folder / "search.db")
        trainer.check(study.done())
        write = functools.partial(found.write, folder, template, trainer)
        with progress(settings["trials"] * trainer.steps, "step") as bar:
            bar.n = bar.initial = len(study.done()) * trainer.steps

            def seen(done: Sequence[Trial]) -> None:
                bar.n = len(done) * trainer.steps
                bar.write(found.line(done, settings["trials"]), file=sys.stderr)
                write(done)

            objective = functools.partial(trainer.values, bar=bar)
            done = run(study, objective, settings["trials"], trainer.at_once, seen)
        return write(done)


def _settings(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(
            "config.search is missing: a section such as {'spaces': {'weight': "
            f"'{spaces.EXAMPLE}'}}, 'trials': 50}}."
        )
    for name in given:
        if name not in SETTINGS:
            raise ConfigError(f"config.search has no {name!r}; {near(str(name), list(SETTINGS))}.")
    settings = {**SETTINGS, **given}
    for name, least in (("trials", 1), ("seed", 0)):
        if type(settings[name]) is not int or settings[name] < least:
            raise ConfigError(
                f"config.search.{name} must be a whole number, {least} or more, but it is "
                f"{settings[name]!r}."
            )
    if settings["sampler"] not in SAMPLERS:
        raise ConfigError(
            f"config.search.sampler must be one of {', '.join(map(repr, SAMPLERS))}, but it is "
            f"{settings['sampler']!r}."
        )
    return settings
