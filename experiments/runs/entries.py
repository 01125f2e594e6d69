"""The checks of a config's entries, each before anything is read or trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import LARGEST, ConfigError, is_number
from experiments.training.parallel import KINDS
from experiments.runs.selection import SELECTIONS
from experiments.training.sweep import STRATEGIES

TEXTS = (
    "dataset",
    "data_dir",
    "data",
    "model",
    "dtype",
    "optimizer",
    "schedule",
    "selection",
    "strategy",
    "parallelism",
    "distributed",
    "published_source",
)
SERIES = ("train_sizes", "mean", "std", "growing", "published_for")
SECTIONS = ("losses", "strengths", "perturbations", "published", "published_robustness")

# The least values of numbers; those that are not FRACTIONAL are whole.
LEAST = {
    "seeds": 1,
    "epochs": 1,
    "batch_size": 1,
    "runs_at_once": 1,
    "accumulate": 1,
    "keep_checkpoints": 1,
    "fsdp": 1,
    "image_size": 1,
    "validation_per_class": 0,
    "checkpoint_steps": 0,
    "evaluate_epochs": 0,
    "workers": 0,
    "clip_norm": 0,
    "average": 0,
    "learning_rate": 0,
    "published_seeds": 0,
}
MOST = 2**31 - 1
FRACTIONAL = ("learning_rate", "clip_norm", "average", "evaluate_epochs")
KNOWN = {
    "data": ("memory", "stream"),
    "dtype": ("float32", "bfloat16"),
    "selection": tuple(SELECTIONS),
    "strategy": ("", *STRATEGIES),
    "parallelism": ("", *KINDS),
}


def check(config: Mapping[str, Any]) -> None:
    """Looks at all entries but the losses and their strengths.

    Raises:
      ConfigError: one is missing, of another type, out of range, or does not fit the others.
    """
    _check_types(config)
    for name, least in LEAST.items():
        value, most = config[name], LARGEST if name in FRACTIONAL else MOST
        if not least <= value <= most:
            bound = f"at most {most:,}" if value > most else f"at least {least}"
            bound = "finite" if value == math.inf else bound
            raise ConfigError(f"config.{name} must be {bound}, but it is {value!r:.20}.")
    for name, known in KNOWN.items():
        if config[name] not in known:
            raise ConfigError(
                f"config.{name} is {config[name]!r}, but it can be {' or '.join(map(repr, known))}."
            )
    _check_data(config)
    _check_training(config)
    if config["data"] == "stream":
        _check_stream(config)
    _check_published(config["published"])


def _check_types(config: Mapping[str, Any]) -> None:
    whole = tuple(name for name in LEAST if name not in FRACTIONAL)
    kinds: list[tuple[tuple[str, ...], Any, str]] = [
        (TEXTS, str, "a text"),
        (whole, int, "a whole number"),
        (FRACTIONAL, int | float, "a number"),
        (SERIES, tuple | list, "a tuple"),
        (SECTIONS, Mapping, "a ConfigDict"),
    ]
    for names, kind, words in kinds:
        for name in names:
            if name not in config:
                raise ConfigError(
                    f"config.{name} is missing: begin with base() of configs/common.py, which has "
                    "every entry."
                )
            if not isinstance(config[name], kind) or isinstance(config[name], bool):
                raise ConfigError(f"config.{name} must be {words}, but it is {config[name]!r}.")


def _check_data(config: Mapping[str, Any]) -> None:
    sizes = config["train_sizes"]
    if not config["losses"] or not sizes:
        raise ConfigError("config.losses and config.train_sizes must each name at least one.")
    if not all(type(size) is int and 0 <= size <= MOST for size in sizes):
        raise ConfigError(
            "config.train_sizes must be whole numbers of at least 1 image per class, or 0 for all "
            f"of them: {tuple(sizes)}."
        )
    check_distinct("train_sizes", sizes)
    for name, least in (("mean", -math.inf), ("std", 0)):
        if not all(is_number(value) and least < value for value in config[name]):
            raise ConfigError(
                f"config.{name} must be {'positive' if name == 'std' else 'finite'} numbers, one "
                f"for all channels or one for each, but it is {tuple(config[name])}."
            )
    if config["selection"] == "validation" and config["validation_per_class"] < 1:
        raise ConfigError(
            "config.selection='validation' needs config.validation_per_class of at least 1."
        )


def _check_training(config: Mapping[str, Any]) -> None:
    if not config["learning_rate"] > 0:
        raise ConfigError(
            f"config.learning_rate must be positive, but it is {config['learning_rate']}."
        )
    if not config["average"] < 1:
        raise ConfigError(
            "config.average is the decay of the parameters' moving average and must be below 1, "
            f"such as 0.999, but it is {config['average']}."
        )
    if config["batch_size"] % config["accumulate"]:
        raise ConfigError(
            f"config.accumulate={config['accumulate']} must divide config.batch_size="
            f"{config['batch_size']}: the batch is split into that many equal parts."
        )
    for name, value in (("fsdp", 1), ("parallelism", "")):
        if config["runs_at_once"] > 1 and config[name] != value:
            raise ConfigError(
                f"config.{name}={config[name]!r} is for one run that is spread over all devices: "
                f"it needs config.runs_at_once=1, not {config['runs_at_once']}."
            )


def _check_stream(config: Mapping[str, Any]) -> None:
    needed = {"train_sizes": (0,), "validation_per_class": 0, "runs_at_once": 1}
    for name, value in needed.items():
        given = tuple(config[name]) if name == "train_sizes" else config[name]
        if given != value:
            raise ConfigError(
                f"config.data='stream' trains on all images, one run at a time: config.{name} must "
                f"be {value!r}, but it is {given!r}."
            )


def _check_published(published: Mapping[str, Any]) -> None:
    for method, sizes in published.items():
        for size, value in sizes.items() if isinstance(sizes, Mapping) else [("", sizes)]:
            pair = isinstance(value, tuple | list) and len(value) == 2
            mean, std = value if pair else (None, None)
            if not (str(size).isdecimal() and is_number(mean) and (std is None or is_number(std))):
                raise ConfigError(
                    f"config.published.{method} must be (mean, standard deviation or None) by "
                    f"training size, such as {{'5': (81.2, 0.4)}}, but it is {sizes!r}."
                )


def check_distinct(name: str, values: Sequence[float]) -> None:
    """Raises ConfigError for a number that stands twice: it would count runs that are not there."""
    if len(set(values)) < len(values):
        raise ConfigError(f"config.{name} names a number twice: {tuple(values)}.")
