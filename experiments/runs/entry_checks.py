"""The checks of a config's entries, each before anything is read or trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import LARGEST, ConfigError, is_number
from experiments.data import whitening
from experiments.runs.entries import ENTRIES
from experiments.runs.entry_kinds import KINDS, MOST, Entry
from experiments.runs.entry_values import growing, has_choices, runs_at_once

BY_NAME = {entry.name: entry for entry in ENTRIES}


def check(config: Mapping[str, Any]) -> None:
    """Looks at all entries but the losses and their strengths.

    Raises:
      ConfigError: one is missing, of another type, out of range, or does not fit the others.
    """
    for entry in ENTRIES:
        _check_kind(entry, config)
    for entry in ENTRIES:
        check_value(entry, config[entry.name])
    _check_data(config)
    _check_held_out(config)
    _check_training(config)
    _check_growing(config["growing"])
    _check_mixture(config)
    _check_joined(config)
    if config["data"] == "stream":
        _check_stream(config)
    _check_published(config["published"])


def _check_kind(entry: Entry, config: Mapping[str, Any]) -> None:
    if entry.name not in config:
        raise ConfigError(
            f"config.{entry.name} is missing: begin with base() of configs/common.py, which has "
            "every entry."
        )
    value = config[entry.name]
    if not entry.fits(value):
        raise ConfigError(
            f"config.{entry.name} must be {KINDS[entry.kind][1]}, but it is {value!r}."
        )


def check_value(entry: Entry, value: Any) -> None:
    """Raises ConfigError for a number out of the entry's range, or a text that is not known."""
    if entry.kind in ("whole", "number"):
        most = MOST if entry.kind == "whole" else LARGEST
        if not entry.least <= value <= most:
            bound = f"at most {most:,}" if value > most else f"at least {entry.least}"
            bound = "finite" if value == math.inf else bound
            raise ConfigError(f"config.{entry.name} must be {bound}, but it is {value!r:.20}.")
    if entry.known and value not in entry.known:
        known = " or ".join(map(repr, entry.known))
        raise ConfigError(f"config.{entry.name} is {value!r}, but it can be {known}.")


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
    if not 0 < config["test_share"] < 1:
        raise ConfigError(
            "config.test_share must be a share between 0 and 1, such as 0.2, but it is "
            f"{config['test_share']}."
        )
    for name in ("image_key", "label_key"):
        if not config[name]:
            raise ConfigError(f"config.{name} must name what a data set calls it, not ''.")
    for name, least in (("mean", -math.inf), ("std", 0)):
        if not all(is_number(value) and least < value for value in config[name]):
            raise ConfigError(
                f"config.{name} must be {'positive' if name == 'std' else 'finite'} numbers, one "
                f"for all channels or one for each, but it is {tuple(config[name])}."
            )
    _check_whiten(config["whiten"])
    _check_broken(config)
    _check_classes(config)
    for name in ("metrics", "columns"):
        if not all(isinstance(each, str) for each in config[name]) or _repeats(config[name]):
            raise ConfigError(
                f"config.{name} must be names of metrics, each of them once, such as "
                f"('accuracy', 'nll'), but it is {tuple(config[name])}."
            )


def _check_whiten(text: str) -> None:
    try:
        whitening.read(text)
    except ValueError as error:
        raise ConfigError(f"config.whiten: {error}") from None


def _check_held_out(config: Mapping[str, Any]) -> None:
    count, sizes = config["validation_per_class"], tuple(config["train_sizes"])
    again = config["selection"] == "retrain" and has_choices(config)
    if again and (config["data"] == "stream" or not count):
        raise ConfigError(
            "config.selection='retrain' holds out training images, of data in memory, and trains "
            "again with them: it needs config.data='memory' and config.validation_per_class of at "
            "least 1. By a data set's own validation images config.selection='validation' chooses."
        )
    if (again or config["validation_included"]) and any(0 < size <= count for size in sizes):
        raise ConfigError(
            f"config.validation_per_class={count} of the images of config.train_sizes are held "
            f"out, so that each must be 0, for all, or larger, but they are {sizes}."
        )


def _check_broken(config: Mapping[str, Any]) -> None:
    names = [config["dataset"], *config["mixture"], *map(str, config["perturbations"].values())]
    # Rows of an archive cannot be broken.
    own = ("folder:", "huggingface:", "npz:", "cityscapes:")
    if config["broken"] == "skip" and not any(kind in name for name in names for kind in own):
        raise ConfigError(
            "config.broken='skip' leaves out image files of your own ('folder:PATH' or "
            f"'huggingface:PATH_OR_NAME'), but {config['dataset']!r} is a prepared or registered "
            "data set, of which a broken example is named and refused: set "
            "config.broken='refuse'."
        )


def _check_classes(config: Mapping[str, Any]) -> None:
    weights = config["class_weights"]
    if isinstance(weights, str):
        right = weights in ("", "balanced", "median")
    else:
        right = all(is_number(w) and 0 <= w <= LARGEST for w in weights) and any(weights)
    if not right:
        raise ConfigError(
            "config.class_weights must be 'balanced', 'median', '' or a tuple of numbers of at "
            f"least 0, one a class and not all 0, but it is {weights!r}."
        )
    if weights == "balanced" and config["sampling"]:
        raise ConfigError(
            "config.class_weights='balanced' and config.sampling='balanced' both make classes "
            "count alike: choose one."
        )


def _check_training(config: Mapping[str, Any]) -> None:
    if not config["learning_rate"] > 0:
        raise ConfigError(
            f"config.learning_rate must be positive, but it is {config['learning_rate']}."
        )
    if config["score_epochs"] > config["epochs"]:
        raise ConfigError(
            f"config.score_epochs={config['score_epochs']} last epochs are averaged, so that it "
            f"must be at most config.epochs={config['epochs']}."
        )
    if not config["average"] < 1:
        raise ConfigError(
            "config.average is the decay of the parameters' moving average and must be below 1, "
            f"such as 0.999, but it is {config['average']}."
        )
    for name in ("batch_size", "unlabeled_batch_size"):
        if config[name] % config["accumulate"]:
            raise ConfigError(
                f"config.accumulate={config['accumulate']} must divide config.{name}="
                f"{config[name]}: the batch is split into that many equal parts."
            )
    for name, value in (("fsdp", 1), ("parallelism", "")):
        if runs_at_once(config) > 1 and config[name] != value:
            raise ConfigError(
                f"config.{name}={config[name]!r} is for one run that is spread over all devices: "
                f"it needs config.runs_at_once=1, not {config['runs_at_once']}."
            )


def _check_growing(given: Any) -> None:
    for name, curve in growing(given).items():
        if not isinstance(curve, str):
            raise ConfigError(
                f"config.growing must have a curve for each number, such as {{'isda': "
                f"{{'strength': 'linear'}}}}, but for {name!r} it has {curve!r}."
            )


def _check_mixture(config: Mapping[str, Any]) -> None:
    mixture = config["mixture"]
    if not mixture:
        return
    if config["data"] != "memory":
        raise ConfigError(
            f"config.mixture needs config.data='memory': a {config['data']} is of one data set."
        )
    shares = mixture.values()
    if not all(is_number(share) and share > 0 for share in shares) or not sum(shares) < 1:
        raise ConfigError(
            "config.mixture must name data sets with their shares of each batch, positive numbers "
            f"whose sum is below 1, such as {{'synthetic': 0.25}}, but it is {dict(mixture)}."
        )


def _check_joined(config: Mapping[str, Any]) -> None:
    names = config["joined"]
    if not all(isinstance(name, str) and name for name in names) or _repeats(names):
        raise ConfigError(
            "config.joined must name data sets, each of them once, such as ('npz:copies',), but "
            f"it is {tuple(names)}."
        )
    if names and config["classes"]:
        raise ConfigError(
            "config.joined and config.classes cannot both be set: copies are told by their places "
            "in the whole data set."
        )
    if names and config["data"] != "memory":
        raise ConfigError(
            f"config.joined needs config.data='memory': a {config['data']} is of one data set."
        )
    if config["equal_updates"] and not names:
        raise ConfigError(
            "config.equal_updates=True counts the steps of an epoch without the images of "
            "config.joined, which names none."
        )


def _check_stream(config: Mapping[str, Any]) -> None:
    needed: dict[str, Any] = {"train_sizes": (0,), "validation_per_class": 0}
    needed |= {"sampling": "", "positive_class": "", "classes": ()}
    if config["runs_at_once"] != BY_NAME["runs_at_once"].default:
        needed["runs_at_once"] = 1
    if config["unlabeled_batch_size"]:
        needed["unlabeled_includes_labeled"] = True
    if whitening.has_zca(config["whiten"]):
        needed["whiten"] = ""
    given = {**config, **{n: tuple(config[n]) for n in ("train_sizes", "classes")}}
    wrong = [
        f"config.{n}={value!r}, not {given[n]!r}"
        for n, value in needed.items()
        if given[n] != value
    ]
    if wrong:
        raise ConfigError(
            "config.data='stream' trains on all images with their labels, one run at a time: it "
            f"needs {'; '.join(wrong)}."
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
    if _repeats(values):
        raise ConfigError(f"config.{name} names a number twice: {tuple(values)}.")


def _repeats(values: Sequence[Any]) -> bool:
    return len(set(values)) < len(values)
