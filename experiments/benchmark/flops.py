"""Training FLOPs of a function, read off its jaxpr: matrix products and convolutions.

XLA's own `compiled.cost_analysis()` counts the body of a loop once, however often it runs (on the
CPU with jax 0.10.2, even where the number of passes is known), so it misses nine tenths of an exact
Jacobian norm of ten classes. Here a loop counts as often as it runs. Without loops both agree but
for elementwise work, which is not counted here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr


def flops(function: Callable[..., Any], *arguments: Any, passes: int | None = None) -> int:
    """Floating-point operations in the products and convolutions of `function(*arguments)`.

    A multiplication and an addition count as two; what no output needs counts as nothing, nor do
    products with padding. Of a conditional the most expensive branch counts.

    Args:
      function: a traceable function; it is not run, so its arguments may be `ShapeDtypeStruct`s.
      *arguments: pytrees of arrays.
      passes: how often, or at most how often, every `while` loop with products in it runs, which no
        jaxpr tells.

    Returns:
      The number of operations.

    Raises:
      ValueError: a product stands in a `while` loop and `passes` is None.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(needed, passes)


def _count(jaxpr: Jaxpr, passes: int | None) -> int:
    return sum(_count_equation(equation, passes) for equation in jaxpr.eqns)


def _count_equation(equation: JaxprEqn, passes: int | None) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        return _dot_general(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name in ("convolution_output", "convolution_image", "convolution_kernel"):
        return _bilinear(equation)
    inner = [_count(getattr(j, "jaxpr", j), passes) for j in jaxprs_in_params(parameters)]
    if name == "cond":
        return max(inner)
    if name == "while" and any(inner):
        if passes is None:
            raise ValueError(
                "products in a while loop are counted only where passes= says how often it runs: "
                "say it, or use jax.lax.scan or map."
            )
        return sum(inner) * passes
    return sum(inner) * (parameters["length"] if name == "scan" else 1)


def _shapes(equation: JaxprEqn) -> list[tuple[int, ...]]:
    variables: list[Any] = [*equation.invars, *equation.outvars]
    return [variable.aval.shape for variable in variables]


def _dot_general(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    first, _, out = _shapes(equation)
    return 2 * math.prod(out) * math.prod(first[axis] for axis in contracted)


def _convolution(equation: JaxprEqn) -> int:
    image, kernel, out = _shapes(equation)
    p = equation.params
    numbers = p["dimension_numbers"]
    batch, features, *spatial = (out[axis] for axis in numbers.out_spec)
    lhs = [image[axis] for axis in numbers.lhs_spec[2:]]
    _, per_group, *window = (kernel[axis] for axis in numbers.rhs_spec)
    options = (p["window_strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"])
    met = math.prod(map(pairs, spatial, lhs, window, *options))
    return 2 * batch * features * per_group * met


def _bilinear(equation: JaxprEqn) -> int:
    """The three maps of `experiments/models/convolution.py`, which cost the same."""
    first, second, _ = _shapes(equation)
    kernel = equation.primitive.name == "convolution_kernel"
    images = math.prod(first[:-3])  # of all models
    window = equation.params["window"]
    channels = (first[-1] // window.groups if kernel else second[-2]) * second[-1]
    sides = (window.output, window.image, window.kernel, window.strides, window.padding)
    met = math.prod(pairs(*side, 1, 1) for side in zip(*sides, strict=True))
    return 2 * images * channels * met


def pairs(
    out: int, size: int, window: int, stride: int, pad: Any, dilation: int, window_dilation: int
) -> int:
    """How many (output, window) pairs along one axis meet a pixel: neither padding nor a hole."""
    places = (
        o * stride + w * window_dilation - pad[0]
        for o, w in itertools.product(range(out), range(window))
    )
    return sum(0 <= place <= (size - 1) * dilation and place % dilation == 0 for place in places)
