"""The parser of loss expressions: calls joined by `|`, which `calls.py` reads one by one."""

from __future__ import annotations

import ast
from typing import Any

from regjax.core.calls import CallError, read_call, syntax
from regjax.core.definitions import REGISTRY, Stage, definition
from regjax.core.loss import Loss


def parse(text: str) -> Loss:
    """The loss of an expression, a base and stages joined by `|`; nothing is evaluated.

    Args:
      text: such as `"cross_entropy | double_backprop(weight=0.1)"`, arguments being literals. A
        stage of a module that has been imported may be written `module:name(weight=0.1)`.

    Returns:
      The `Loss`; `parse(repr(loss)) == loss` unless an argument is a schedule.

    Raises:
      ValueError: an unknown stage, anything that is no expression of this form.
      TypeError: an unknown or missing argument, or a text that is no string.

    Example:
      >>> import regjax as rj
      >>> rj.parse("cross_entropy | noise_injection(sigma=1)")
      cross_entropy | noise_injection(sigma=1.0)
    """
    if not isinstance(text, str):
        raise TypeError(f"parse reads a string, but it was given {type(text).__name__}.")
    try:
        calls = [read_call(node) for node in _links(syntax(text))]
    except CallError as error:
        raise ValueError(_unreadable(error, text)) from None
    stages = tuple(_stage(*call, text) for call in calls)
    kinds = [stage.definition.kind for stage in stages]
    if kinds[0] != "base" or "base" in kinds[1:]:
        raise ValueError(
            f"{_shortened(text)} must begin with one base loss ({_known('base')}) and may go on "
            f"with wrappers ({_known('wrapper')}) and penalties ({_known('penalty')})."
        )
    return Loss(stages)


def _links(tree: ast.expr) -> list[ast.expr]:
    links = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        links.append(tree.right)
        tree = tree.left
    return [tree, *reversed(links)]


def _stage(name: str, given: dict[str, Any], text: str) -> Stage:
    if name not in REGISTRY and ":" not in name:
        raise ValueError(
            f"unknown stage {_shortened(name)} in {_shortened(text)}; known are: {_known()}."
        )
    return definition(name).bind(given)


def _unreadable(error: CallError, text: str) -> str:
    if error.reason is not None:
        return f"{error.reason}: {_shortened(text)} cannot be read."
    return (
        f"{_shortened(text)} is no loss expression: write a base and stages with keyword arguments "
        "joined by '|', such as 'cross_entropy | double_backprop(weight=0.1)'."
    )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "...")


def _known(kind: str | None = None) -> str:
    return ", ".join(sorted(n for n, d in REGISTRY.items() if kind in (None, d.kind)))
