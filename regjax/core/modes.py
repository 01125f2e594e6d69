"""The keywords by which a model's call is told whether it trains."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

# By name, and whether they mean that it trains.
_MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


def check_modes(
    model: type[Callable[..., Any]],
    training: Mapping[str, Any] | None,
    frozen: Mapping[str, Any] | None,
) -> None:
    """Refuses a model whose call takes more than `x`, or may take a mode, and is not told what.

    Args:
      model: the class of a model.
      training: keywords of its call in training.
      frozen: keywords of its call with running averages.

    Raises:
      TypeError: a keyword is missing in one of them.
    """
    _, _, *rest = inspect.signature(model.__call__).parameters.values()  # self and x
    for p in rest:
        keyword = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if not keyword or (p.default is not p.empty and p.name not in _MODES):
            continue
        trains = _MODES.get(p.name, True)
        values = {"training": (training, trains), "frozen": (frozen, not trains)}
        shown = [
            f"{name}={{{p.name!r}: {value}}}"
            for name, (given, value) in values.items()
            if p.name not in (given or {})
        ]
        if shown:
            raise TypeError(
                f"{model.__name__}'s call takes {p.name!r}, of which bind must say what it is in "
                f"training and with running averages: bind(model, variables, {', '.join(shown)})."
            )
