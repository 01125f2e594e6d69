"""Names with keyword arguments, as a config writes them: `step(epochs=(80, 120), factor=0.1)`."""

import ast
import math
from typing import Any


def read(text: str, kind: str, example: str) -> tuple[str, dict[str, Any]]:
    """Reads a name and its keyword arguments, literals all of them; nothing is evaluated.

    Args:
      text: such as "cosine" or "cosine(warmup=5)".
      kind: what it is, for the error.
      example: of its kind, for the error.

    Raises:
      ValueError: it is none, or a number is not finite.

    Example:
      `read("cosine(warmup=5)", "schedule", "cosine")` is `("cosine", {"warmup": 5})`.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        unnamed = bool(call.args) or any(k.arg is None for k in call.keywords)
        if not isinstance(call.func, ast.Name) or unnamed:
            raise ValueError(text)
        given = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if len(given) < len(call.keywords) or not all(map(_is_finite, given.values())):
            raise ValueError(text)
        return call.func.id, given
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError(
            f"the {kind} {text!r} cannot be read: write a name with keyword arguments, finite "
            f"numbers, such as {example}."
        ) from None


def _is_finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
