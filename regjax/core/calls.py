"""The one reader of `name(argument=literal)`, as expressions and configs write it.

A name may be `module:name`, of a module that has been imported. It reads Python literals, evaluates
and imports nothing.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
import sys
from typing import Any

_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
# What stands outside of strings: names of modules' own, which Python's syntax knows as products.
_TOKENS = re.compile(
    r"""(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<module>\b[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?=[^\W\d])|(?P<product>@)"""
)


class CallError(ValueError):
    """A text that is no name with keyword arguments.

    Attributes:
      reason: what is wrong with an argument, the beginning of a sentence; None where the text has
        another form altogether.
    """

    def __init__(self, reason: str | None = None) -> None:
        """Says the reason, or what form is read."""
        super().__init__(reason or "a call is a name with keyword arguments, literals all of them")
        self.reason = reason


def syntax(text: str) -> ast.expr:
    """The syntax tree of an expression.

    Args:
      text: Python's syntax; blanks around it do not count.

    Returns:
      A node that `read_call` may be given.

    Raises:
      CallError: it is no expression.

    Example:
      >>> type(syntax("a | b(c=1)")).__name__
      'BinOp'
    """
    try:
        return ast.parse(_TOKENS.sub(_as_product, text.strip()), mode="eval").body
    except _UNREADABLE:
        raise CallError from None


def _as_product(found: re.Match[str]) -> str:
    if found["product"]:
        raise CallError
    return f"{found['module']}@" if found["module"] else found[0]


def read_call(source: str | ast.expr) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of `name(argument=literal, ...)`; the name alone has none.

    Args:
      source: a text, or a node of its syntax tree.

    Returns:
      The name, `module:name` where it was written so, and the literals by argument.

    Raises:
      CallError: it has another form, an argument is no literal or is given twice.

    Example:
      >>> read_call("step(epochs=(80, 120), factor=0.1)")
      ('step', {'epochs': (80, 120), 'factor': 0.1})
    """
    node = syntax(source) if isinstance(source, str) else source
    module = ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        if not isinstance(node.left, ast.Name | ast.Attribute):
            raise CallError
        module, node = f"{ast.unparse(node.left)}:", node.right
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name) or call.args or not all(k.arg for k in call.keywords):
        raise CallError
    name = module + call.func.id
    given = {str(k.arg): _literal(name, k) for k in call.keywords}
    if len(given) < len(call.keywords):
        raise CallError(f"{_shortened(name)} is given an argument twice")
    return name, given


def read_named(text: str, kind: str, example: str) -> tuple[str, dict[str, Any]]:
    """What `read_call` reads, of finite numbers; its error says what the text was meant to be.

    Args:
      text: such as `"cosine"` or `"cosine(warmup=5)"`.
      kind: what it is, for the error.
      example: of its kind, for the error.

    Returns:
      The name and the literals by argument.

    Raises:
      ValueError: it cannot be read, or a number is not finite.

    Example:
      >>> read_named("cosine(warmup=5)", "schedule", "cosine")
      ('cosine', {'warmup': 5})
    """
    try:
        name, given = read_call(text)
        if not all(map(_is_finite, given.values())):
            raise CallError
    except CallError:
        raise ValueError(
            f"the {kind} {text!r} cannot be read: write a name with keyword arguments, finite "
            f"numbers, such as {example}."
        ) from None
    return name, given


def modules(text: str) -> list[str]:
    """The modules that a text names as `module:name`, outside of its strings.

    Example:
      >>> modules("cross_entropy | my.losses:decay(weight=0.1, label='a:b')")
      ['my.losses']
    """
    return [found["module"] for found in _TOKENS.finditer(text) if found["module"]]


def imported(name: str) -> Any:
    """The object of a `module:name`, out of a module that has been imported.

    Args:
      name: such as `"my_package.my_module:my_loss"`.

    Raises:
      ValueError: the module has not been imported, or has nothing of that name; says what is near.

    Example:
      >>> imported("math:sqrt")(4.0)
      2.0
    """
    module, _, own = name.partition(":")
    if module not in sys.modules:
        raise ValueError(f"{name!r} is of the module {module}, which has not been imported.")
    known = vars(sys.modules[module])
    if own not in known:
        public = [each for each in known if not each.startswith("_")]
        near = difflib.get_close_matches(own, public, 3, 0.5) or sorted(public)[:10]
        raise ValueError(
            f"the module {module} has no {own!r}; it has, among others: "
            f"{', '.join(near) or 'nothing'}."
        )
    return known[own]


def _literal(name: str, keyword: ast.keyword) -> Any:
    try:
        return ast.literal_eval(keyword.value)
    except _UNREADABLE:
        raise CallError(
            f"{_shortened(str(keyword.arg))} in {_shortened(name)}(...) must be a Python literal, "
            "such as 0.1 or 'batch'"
        ) from None


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
