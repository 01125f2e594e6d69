"""The modules of somebody's own that a config names, imported before anything of it is read.

`config.imports` names modules whose decorators register what the config then calls by its name.
Where an entry itself says `module:name(argument=3)`, that module is imported too, and its data
sets, metrics and perturbations are put under that name beside the registered ones.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from experiments import ConfigError, said
from experiments.data import kinds
from experiments.data.dataset import DATASETS
from experiments.evaluation.metrics import METRICS, Metric
from experiments.evaluation.perturbations import KINDS, Kind
from regjax.core.calls import CallError, imported, modules, read_call

# (text, name, arguments): puts what is so called where it is looked for.
Put = Callable[[str, str, dict[str, Any]], None]


def load(config: Mapping[str, Any]) -> None:
    """Imports what a config names, and puts what it is called by beside what is registered.

    Args:
      config: with or without `imports`, of which entries may be missing or wrong.

    Raises:
      ConfigError: a module cannot be found or fails while it is imported, or has no such thing.
    """
    names = config.get("imports", ())
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            "config.imports must be a tuple of modules by name, such as "
            f"('my_package.my_module',), but it is {names!r}."
        )
    for name in names:
        _import(name, f"config.imports names {name!r}, which")
    texts = list(_texts(config))
    for entry, text, _ in texts:
        for name in modules(text):
            _import(name, f"config.{entry}, {text!r}, names the module {name}, which")
    for entry, text, put in texts:
        try:
            if put is not None and modules(text):
                put(text, *_read(text))
        except ValueError as error:
            raise ConfigError(f"config.{entry}: {error}") from None


def _import(name: str, which: str) -> None:
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a module is a program, which may fail in any way
        missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        if missing or not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(
                f"{which} cannot be found: name a module without '.py', and start Python in the "
                "folder where it lies, or put that folder on PYTHONPATH."
            ) from None
        raise ConfigError(f"{which} fails while it is imported: {said(error)}.") from error


def _texts(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Put | None]]:
    """The texts in which a name may stand: the entry, the text, and what puts it where it is found.

    Stages, models and optimizers are found in their modules.
    """
    perturbations = list(_section(config, "perturbations").values())
    places: tuple[tuple[str, Any, Put | None], ...] = (
        ("model", config.get("model"), None),
        ("optimizer", config.get("optimizer"), None),
        ("losses", list(_section(config, "losses").values()), None),
        ("dataset", config.get("dataset"), _dataset),
        ("mixture", list(_section(config, "mixture")), _dataset),
        ("joined", config.get("joined"), _dataset),
        ("metrics", config.get("metrics"), _metric),
        ("columns", config.get("columns"), _metric),
        ("perturbations", perturbations, _perturbation),
        ("perturbations", [_other(text) for text in perturbations], _dataset),
    )
    for entry, value, put in places:
        for each in value if isinstance(value, tuple | list) else [value]:
            is_path = put is _dataset and bool(kinds.kind_of(str(each)))
            if isinstance(each, str) and not is_path:
                yield entry, each, put


def _section(config: Mapping[str, Any], entry: str) -> Mapping[str, Any]:
    value = config.get(entry)
    return value if isinstance(value, Mapping) else {}


def _other(text: Any) -> Any:
    """The data set that a perturbation tests on, or None."""
    try:
        name, given = read_call(str(text))
    except CallError:
        return None
    return given.get("name") if name == "dataset" else None


def _read(text: str) -> tuple[str, dict[str, Any]]:
    try:
        return read_call(text)
    except CallError:
        raise ValueError(f"{text!r} cannot be read: write module:name(argument=literal).") from None


def _dataset(text: str, name: str, given: dict[str, Any]) -> None:
    reader = _callable(name)

    def read(data_dir: Any, image_size: int) -> Any:
        try:
            return reader(data_dir, image_size, **given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the data set {text!r} cannot be read: {said(error)}.") from error

    DATASETS[text] = read


def _metric(text: str, name: str, given: dict[str, Any]) -> None:
    found = imported(name)
    if not isinstance(found, Metric) or given:
        found = _made(text, _callable(name), given)
    if not isinstance(found, Metric):
        raise ValueError(f"{text!r} is no metric: it needs the decorator metric.")
    METRICS[text] = found


def _perturbation(text: str, name: str, given: dict[str, Any]) -> None:
    function = imported(name)
    known: Iterable[Kind] = (each for each in KINDS.values() if each.function is function)
    found = next(iter(known), None)
    if found is None:
        raise ValueError(f"{name!r} is no perturbation: it needs the decorator kind.")
    KINDS[name] = found


def _callable(name: str) -> Callable[..., Any]:
    found = imported(name)
    if not callable(found):
        raise ValueError(f"{name!r} is no function.")
    return found


def _made(text: str, factory: Callable[..., Any], given: dict[str, Any]) -> Any:
    try:
        return factory(**given)
    except Exception as error:  # it may be anybody's code
        raise ValueError(f"{text!r} cannot be made: {said(error)}.") from error
