"""Norms of the Jacobian of each example, without building it.

Results are float32, or float64 where the inputs are. In the examples `jnp` is `jax.numpy`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from regjax.core.checks import check_count
from regjax.core.precision import wide

Function = Callable[[jax.Array], jax.Array]


def jacobian_spectral_norm(
    function: Function, x: jax.Array, *, iterations: int = 30, key: jax.Array | None = None
) -> jax.Array:
    """Largest singular value of each example's Jacobian, by power iteration.

    `||J||_2 = max_v ||J v||_2 / ||v||_2`, `J = d function(x)_b / d x_b`. Thesis, eqs. 54 and 55.
    An iteration is one product with J' and one with J; J itself is never built. The value comes
    from below; each iteration divides its error by `(s_1 / s_2)^4`, s the singular values, until
    only those about equal to s_1 remain, which hardly matter to the value.

    The first derivative is right at convergence: that of `u' J v` with the singular vectors held
    fixed; it is 0 at J = 0. Higher derivatives are not.

    Args:
      function: `[B, ...] -> [B, C]`, of independent examples: BatchNorm with running averages.
      x: `[B, ...]`.
      iterations: How many, static under `jax.jit`.
      key: Draws the start, one for all examples, so that no result depends on its place in the
        batch. None is `jax.random.key(0)`.

    Returns:
      `[B]`, in units of the output per unit of the input, not averaged, not squared.

    Raises:
      TypeError: For integer inputs or outputs, or iterations that are no integer.
      ValueError: For outputs that are not `[B, C]`, or fewer than one iteration.

    >>> from regjax import metrics
    >>> kernel = jnp.diag(jnp.array([3.0, 4.0]))
    >>> metrics.jacobian_spectral_norm(lambda x: x @ kernel, jnp.ones((2, 2))).tolist()
    [4.0, 4.0]
    """
    check_count("iterations", iterations)
    outputs, pull = _pullback(function, x)
    # J as the transpose of J' (which is linear: any point will do), so that a function with a
    # reverse rule only (jax.custom_vjp) has both.
    _, push = jax.vjp(pull, outputs)

    def step(_: int, u: jax.Array) -> jax.Array:
        return lax.stop_gradient(_unit(push(_unit(pull(u)))[0]))

    start = jax.random.normal(
        jax.random.key(0) if key is None else key, outputs.shape[1:], outputs.dtype
    )
    u = lax.fori_loop(0, iterations, step, _spread(start, outputs))
    v = lax.stop_gradient(_unit(pull(u)))
    return jnp.sum(v * pull(u), axis=-1)


def jacobian_frobenius_norm(function: Function, x: jax.Array) -> jax.Array:
    """Root of the sum of squares of each example's Jacobian, exact, by one pullback a class.

    `||J||_F = sqrt(sum_c ||d function(x)_bc / d x_b||^2)`. Its square is the penalty of the thesis,
    eq. 50 for probabilities, eq. 56 for logits; `||J||_F^2 / rank(J) <= ||J||_2^2 <= ||J||_F^2`
    (eq. 55). Classes come one after another: neither the value nor its gradient stores B x C x D.

    Args:
      function: `[B, ...] -> [B, C]`, of independent examples: BatchNorm with running averages.
      x: `[B, ...]`.

    Returns:
      `[B]`, in units of the output per unit of the input, not averaged, not squared. Its
      derivative at J = 0 is 0.

    Raises:
      TypeError: For integer inputs or outputs.
      ValueError: For outputs that are not `[B, C]`.

    >>> from regjax import metrics
    >>> kernel = jnp.diag(jnp.array([3.0, 4.0]))
    >>> metrics.jacobian_frobenius_norm(lambda x: x @ kernel, jnp.ones((2, 2))).tolist()
    [5.0, 5.0]
    """
    outputs, pull = _pullback(function, x)

    # Without the checkpoint, differentiating the loop would keep every class's gradient.
    @jax.checkpoint
    def row(unit: jax.Array) -> jax.Array:
        return _norm(pull(_spread(unit, outputs)))

    return _norm(lax.map(row, jnp.eye(outputs.shape[1], dtype=outputs.dtype)).T)


def _pullback(function: Function, x: jax.Array) -> tuple[jax.Array, Function]:
    """The outputs `[B, C]`, and J' as a function `[B, C] -> [B, D]`, both at least float32."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 1:
        raise TypeError(f"x must be floating with a batch axis, got {x.dtype} {x.shape}.")
    outputs, vjp = jax.vjp(function, x)
    if not isinstance(outputs, jax.Array) or not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise TypeError(f"function must return one floating array [B, C], got {outputs}.")
    if outputs.ndim != 2 or outputs.shape[0] != x.shape[0]:
        raise ValueError(
            f"function must return [B, C] with B = {x.shape[0]} as in x, got {outputs.shape}."
        )
    flat = (x.shape[0], math.prod(x.shape[1:]))
    return wide(outputs), lambda u: wide(vjp(u.astype(outputs.dtype))[0]).reshape(flat)


def _spread(row: jax.Array, outputs: jax.Array) -> jax.Array:
    """`[C]` for every example; NaN where the outputs are."""
    # Reading `outputs` also makes the result vary over the devices of a shard_map, as J' requires.
    return jnp.where(jnp.isnan(outputs), outputs, jnp.broadcast_to(row, outputs.shape))


def _norm(a: jax.Array) -> jax.Array:
    """L2 norm over the last axis, with derivative 0 at 0."""
    # Dividing by the largest entry keeps squares of the tiny Jacobians of sure networks above 0.
    peak = lax.stop_gradient(jnp.max(jnp.abs(a), axis=-1, initial=0.0))
    peak = jnp.where(peak == 0, 1.0, peak)
    square = jnp.sum((a / peak[..., None]) ** 2, axis=-1)
    # Twice where: the root's derivative at 0 is infinite, and would be NaN after the outer where.
    return jnp.where(square == 0, 0.0, peak * jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def _unit(a: jax.Array) -> jax.Array:
    norm = _norm(a)[..., None]
    return a / jnp.where(norm == 0, 1.0, norm)
