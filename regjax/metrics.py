"""How good, how calibrated and how robust a classifier is: numbers to report, not to train on.

Labels are probabilities `[B, C]` everywhere, as in the rest of the library; B examples, C classes.
Results are float32, or float64 where the inputs are. In the examples `jnp` is `jax.numpy`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
    "accuracy",
    "expected_calibration_error",
    "jacobian_frobenius_norm",
    "jacobian_spectral_norm",
    "margin_lower_bound",
    "negative_log_likelihood",
    "score",
]

_Function = Callable[[jax.Array], jax.Array]


def accuracy(logits: jax.Array, label: jax.Array, *, weight: jax.Array | None = None) -> jax.Array:
    """Fraction of the examples whose most likely class is the true one.

    `sum_b w_b [argmax g_b = argmax y_b] / sum_b w_b`. Of tied classes the first counts, in the
    logits as in the label; an example with a NaN among its logits counts as wrong.

    Args:
      logits: `[B, C]`.
      label: Probabilities `[B, C]`; the true class is the most probable one.
      weight: `[B]`, 0 on padding, whose values are ignored, NaN too. None weighs all alike.

    Returns:
      A scalar in [0, 1], the weighted mean; 0 where all weights are 0.

    Raises:
      TypeError: For integer labels or logits.
      ValueError: For shapes that do not fit.

    >>> from regjax import metrics
    >>> logits = jnp.array([[2.0, 1.0], [0.0, 3.0]])
    >>> metrics.accuracy(logits, jnp.array([[1.0, 0.0], [1.0, 0.0]])).item()
    0.5
    """
    logits, label, weight = _check(logits, label, weight)
    return _mean(_correct(logits, label).astype(logits.dtype), weight)


def negative_log_likelihood(
    logits: jax.Array, label: jax.Array, *, weight: jax.Array | None = None
) -> jax.Array:
    """Mean negative log-likelihood of the labels; for soft labels this is the cross entropy.

    `-sum_b w_b sum_c y_bc log softmax(g_b)_c / sum_b w_b`. A class of label 0 adds nothing,
    even where its logit is -inf.

    Args:
      logits: `[B, C]`.
      label: Probabilities `[B, C]`.
      weight: `[B]`, 0 on padding, whose values are ignored, NaN too. None weighs all alike.

    Returns:
      A scalar in nats, the weighted mean; 0 where all weights are 0.

    Raises:
      TypeError: For integer labels or logits.
      ValueError: For shapes that do not fit.

    >>> from regjax import metrics
    >>> loss = metrics.negative_log_likelihood(jnp.zeros((1, 2)), jnp.array([[0.5, 0.5]]))
    >>> round(loss.item(), 4)
    0.6931
    """
    logits, label, weight = _check(logits, label, weight)
    log_p = jax.nn.log_softmax(logits)
    # Zero times -inf would be NaN.
    log_p = jnp.where((label == 0) & jnp.isneginf(log_p), 0.0, log_p)
    return _mean(-jnp.sum(label * log_p, axis=-1), weight)


def expected_calibration_error(
    logits: jax.Array, label: jax.Array, *, bins: int = 15, weight: jax.Array | None = None
) -> jax.Array:
    """Mean gap between how sure the classifier is and how often it is right.

    `sum_m (W_m / W) |accuracy_m - confidence_m|` over the bins `((m-1)/M, m/M]` of the
    confidence `max_c softmax(g)_c`; W_m is the weight of the examples in bin m. Take it over a
    whole data set at once: the mean over its batches is another number, and never a smaller one.
    See "On Calibration of Modern Neural Networks" (Guo et al., 2017), eqs. 2, 3 and 5.

    Args:
      logits: `[B, C]`.
      label: Probabilities `[B, C]`; the true class is the most probable one, as in `accuracy`.
      bins: How many bins of equal width; static under `jax.jit`.
      weight: `[B]`, 0 on padding, whose values are ignored, NaN too. None weighs all alike.

    Returns:
      A scalar in [0, 1] (a fraction, not per cent); 0 where all weights are 0.

    Raises:
      TypeError: For integer labels or logits, or bins that are no integer.
      ValueError: For shapes that do not fit, or fewer than one bin.

    >>> from regjax import metrics
    >>> logits = jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]]))
    >>> error = metrics.expected_calibration_error(logits, jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> round(error.item(), 4)  # right in one of two, and sure by 0.75
    0.25
    """
    _check_count("bins", bins)
    logits, label, weight = _check(logits, label, weight)
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    gap = _correct(logits, label).astype(logits.dtype) - confidence
    index = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    share = jnp.where(weight == 0, 0.0, gap * weight) / _total(weight)
    # Within a bin W_m (accuracy_m - confidence_m) is a sum, so that an empty bin divides nothing.
    return jnp.sum(jnp.abs(jax.ops.segment_sum(share, index, num_segments=bins)))


def score(logits: jax.Array, label: jax.Array) -> jax.Array:
    """How far the true class's probability lies above the best other one, times sqrt(2).

    `o = min_{j != y} sqrt(2) (f_y - f_j)` with `f = softmax(logits)`; positive where the example
    is classified right. Thesis, eq. 52. Of probabilities p, pass `log(p)`.

    Args:
      logits: `[B, C]`, at least two classes.
      label: Probabilities `[B, C]`; the true class y is the most probable one, the first of ties.

    Returns:
      `[B]`, in [-sqrt(2), sqrt(2)], not averaged.

    Raises:
      TypeError: For integer labels or logits.
      ValueError: For shapes that do not fit, or a single class.

    >>> from regjax import metrics
    >>> logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    >>> round(metrics.score(logits, jnp.array([[1.0, 0.0, 0.0]])).item(), 4)  # sqrt(2) * 0.2
    0.2828
    """
    logits, label, _ = _check(logits, label, None)
    if logits.shape[-1] < 2:
        raise ValueError(f"score compares at least two classes, got logits {logits.shape}.")
    p = jax.nn.softmax(logits)
    true = jax.nn.one_hot(jnp.argmax(label, axis=-1), p.shape[-1], dtype=jnp.bool_)
    other = jnp.max(jnp.where(true, -jnp.inf, p), axis=-1)
    return math.sqrt(2) * (jnp.sum(jnp.where(true, p, 0.0), axis=-1) - other)


def margin_lower_bound(score: jax.Array, norm: jax.Array) -> jax.Array:
    """Distance in the input that cannot change the class, from the score and the Jacobian's norm.

    `max(score, 0) / (2 sup_x ||J(x)||_2)`, J the Jacobian of the **probabilities**. Thesis,
    eqs. 53 and 54; from "Robust Large Margin Deep Neural Networks" (Sokolic et al., 2017).

    The factor 2 is not in eq. 54, which is false without it: the distance of f from the plane
    `f_y = f_j` is `(f_y - f_j) / sqrt(2)`, half of eq. 52's score. (With one input and two
    classes, `f = (sigmoid(x), sigmoid(-x))`, the margin is |x| and eq. 54 claims about 2 |x|.)

    What the result is worth depends on `norm`. With an upper bound of the norm over the whole
    ball around the example it is a guarantee. With the norm at the example alone, as
    `jacobian_spectral_norm` gives it, it is a first-order estimate, and may exceed the margin.

    Args:
      score: `[B]`, from `score`.
      norm: `[B]`, the spectral norm, or anything above it: the Frobenius norm is (eq. 55).

    Returns:
      `[B]`, in the units of the input (L2), not averaged. 0 where the class is wrong already, and
      inf where it is right and the norm is 0: outputs that do not move keep their class.

    Raises:
      ValueError: For shapes that do not fit.

    >>> from regjax import metrics
    >>> metrics.margin_lower_bound(jnp.array([0.5, -0.5]), jnp.array([2.0, 2.0])).tolist()
    [0.125, 0.0]
    """
    score, norm = _float(score), _float(norm)
    if score.ndim != 1 or score.shape != norm.shape:
        raise ValueError(f"score and norm must both be [B], got {score.shape} and {norm.shape}.")
    # The inner where keeps 0/0 out of the gradient; a NaN norm takes neither branch and stays NaN.
    bound = jnp.maximum(score, 0.0) / (2 * jnp.where(norm == 0, 1.0, norm))
    return jnp.where((norm == 0) & (score > 0), jnp.inf, bound)


def jacobian_spectral_norm(
    function: _Function, x: jax.Array, *, iterations: int = 30, key: jax.Array | None = None
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
    _check_count("iterations", iterations)
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


def jacobian_frobenius_norm(function: _Function, x: jax.Array) -> jax.Array:
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


def _pullback(function: _Function, x: jax.Array) -> tuple[jax.Array, _Function]:
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
    return _float(outputs), lambda u: _float(vjp(u.astype(outputs.dtype))[0]).reshape(flat)


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


def _correct(logits: jax.Array, label: jax.Array) -> jax.Array:
    right = jnp.argmax(logits, axis=-1) == jnp.argmax(label, axis=-1)
    # argmax names the first NaN: without this a network that diverged would score a tenth.
    return right & ~jnp.any(jnp.isnan(logits), axis=-1)


def _total(weight: jax.Array) -> jax.Array:
    total = jnp.sum(weight)
    return jnp.where(total == 0, 1.0, total)


def _mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    # Padding may hold anything, and zero times NaN is NaN.
    return jnp.sum(jnp.where(weight == 0, 0.0, values * weight)) / _total(weight)


def _float(a: jax.Array) -> jax.Array:
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def _check(
    logits: jax.Array, label: jax.Array, weight: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The three at least in float32, weights of 1 for None."""
    logits, label = jnp.asarray(logits), jnp.asarray(label)
    for name, a in (("logits", logits), ("label", label)):
        if not jnp.issubdtype(a.dtype, jnp.floating):
            hint = "; jax.nn.one_hot(label, C) makes them" if name == "label" else ""
            kind = "probabilities" if name == "label" else "real numbers"
            raise TypeError(f"{name} must be {kind} [B, C], got {a.dtype} {a.shape}{hint}.")
    if logits.ndim != 2 or logits.shape != label.shape:
        raise ValueError(
            f"logits and label must both be [B, C], got {logits.shape} and {label.shape}."
        )
    logits, label = _float(logits), _float(label)
    weight = jnp.ones(logits.shape[:1]) if weight is None else jnp.asarray(weight)
    if weight.shape != logits.shape[:1]:
        raise ValueError(f"weight must be [B] with B = {logits.shape[0]}, got {weight.shape}.")
    return logits, label, weight.astype(logits.dtype)


def _check_count(name: str, count: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"{name} must be a Python integer, got {count!r}.")
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}.")
