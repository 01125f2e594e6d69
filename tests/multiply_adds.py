"""Multiply-adds of a network for one image, read off its jaxpr: nothing is compiled or run."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import jaxprs_in_params
from model_checks import abstract


def multiply_adds(model_text: str, image_shape: tuple[int, int, int], classes: int) -> int:
    """Multiply-adds of the convolutions and matrix products, as papers count them.

    Products with the padding count too, which `experiments.benchmark.flops` leaves out; means,
    normalisation and activations count as nothing.

    Args:
      model_text: name and arguments, as `config.model` has them.
      image_shape: (height, width, channels).
      classes: number of logits.

    Returns:
      The number for the evaluation of one image.

    Example:
      `multiply_adds("resnet32", (32, 32, 3), 10) == 69_124_736`
    """

    graph, state = nnx.split(abstract(model_text, image_shape, classes))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, images)
    return _of(jaxpr.jaxpr)


def _of(jaxpr) -> int:
    return sum(map(_of_equation, jaxpr.eqns))


def _of_equation(equation) -> int:
    first, *others = [v.aval.shape for v in (*equation.invars, *equation.outvars)] or [()]
    match equation.primitive.name:
        case "convolution_output":
            kernel, out = others
            return math.prod(out) * math.prod(kernel[:-1])
        case "conv_general_dilated":
            kernel, out = others
            features = equation.params["dimension_numbers"].rhs_spec[0]
            return math.prod(out) * math.prod(kernel) // kernel[features]
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            return math.prod(others[-1]) * math.prod(first[axis] for axis in contracted)
    passes = equation.params["length"] if equation.primitive.name == "scan" else 1
    inner = jaxprs_in_params(equation.params)
    return passes * sum(_of(getattr(j, "jaxpr", j)) for j in inner)
