"""How good, how calibrated and how robust a classifier is: numbers to report, not to train on.

Labels are probabilities `[B, C]` everywhere, as in the rest of the library; B examples, C classes.
Results are float32, or float64 where the inputs are. In the examples `jnp` is `jax.numpy`.

An erratum: the thesis's eq. 54, the bound of the margin, lacks a factor 2 and is false without it.
The distance of f from the plane `f_y = f_j` is `(f_y - f_j) / sqrt(2)`, half of eq. 52's score:
with one input and two classes, `f = (sigmoid(x), sigmoid(-x))`, the margin is |x|, and eq. 54
claims about 2 |x|.
"""

import math

import jax
import jax.numpy as jnp

from regjax.core.checks import check_count
from regjax.core.precision import wide
from regjax.gradient.norms import jacobian_frobenius_norm, jacobian_spectral_norm
from regjax.losses.cross_entropy import counted

_BLOCK = 256

__all__ = [
    "accuracy",
    "expected_calibration_error",
    "jacobian_frobenius_norm",
    "jacobian_spectral_norm",
    "margin_lower_bound",
    "negative_log_likelihood",
    "score",
]


def accuracy(logits: jax.Array, label: jax.Array, *, weight: jax.Array | None = None) -> jax.Array:
    """Fraction of the examples whose most likely class is the true one.

    `sum_b w_b [argmax g_b = argmax y_b] / sum_b w_b`. Of tied classes the first counts, in the
    logits as in the label; an example with a NaN among its logits counts as wrong.

    Args:
      logits: `[B, C]`.
      label: Probabilities `[B, C]`; the true class is the most probable one. Examples whose label
        is all 0 do not count.
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
      label: Probabilities `[B, C]`; examples whose label is all 0 do not count.
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
    return _mean(-jnp.sum(counted(label, log_p), axis=-1), weight)


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
    check_count("bins", bins)
    logits, label, weight = _check(logits, label, weight)
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    gap = _correct(logits, label).astype(logits.dtype) - confidence
    index = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    share = jnp.where(weight == 0, 0.0, gap * weight) / _total(weight)
    # Within a bin W_m (accuracy_m - confidence_m) is a sum, so that an empty bin divides nothing.
    in_bin = index[None] == jnp.arange(bins)[:, None]
    return jnp.sum(jnp.abs(_sum(jnp.where(in_bin, share[None], 0.0))))


def score(logits: jax.Array, label: jax.Array) -> jax.Array:
    """How far the true class's probability lies above the best other one, times sqrt(2).

    `o = min_{j != y} sqrt(2) (f_y - f_j)` with `f = softmax(logits)`; positive where the example
    is classified right. Thesis, eq. 52. Of probabilities p, pass `log(p)`.

    Args:
      logits: `[B, C]`, at least two classes.
      label: Probabilities `[B, C]`; the true class y is the most probable one, the first of ties.

    Returns:
      `[B]`, in [-sqrt(2), sqrt(2)], not averaged; NaN where the label is all 0.

    Raises:
      TypeError: For integer labels or logits.
      ValueError: For shapes that do not fit, or a single class.

    >>> from regjax import metrics
    >>> logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    >>> round(metrics.score(logits, jnp.array([[1.0, 0.0, 0.0]])).item(), 4)  # sqrt(2) * 0.2
    0.2828
    """
    logits, label, weight = _check(logits, label, None)
    if logits.shape[-1] < 2:
        raise ValueError(f"score compares at least two classes, got logits {logits.shape}.")
    p = jax.nn.softmax(logits)
    true = jax.nn.one_hot(jnp.argmax(label, axis=-1), p.shape[-1], dtype=jnp.bool_)
    other = jnp.max(jnp.where(true, -jnp.inf, p), axis=-1)
    found = math.sqrt(2) * (jnp.sum(jnp.where(true, p, 0.0), axis=-1) - other)
    return jnp.where(weight > 0, found, jnp.nan)


def margin_lower_bound(score: jax.Array, norm: jax.Array) -> jax.Array:
    """Distance in the input that cannot change the class, from the score and the Jacobian's norm.

    `max(score, 0) / (2 sup_x ||J(x)||_2)`, J the Jacobian of the **probabilities**. Thesis,
    eqs. 53 and 54; from "Robust Large Margin Deep Neural Networks" (Sokolic et al., 2017).

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
    score, norm = wide(score), wide(norm)
    if score.ndim != 1 or score.shape != norm.shape:
        raise ValueError(f"score and norm must both be [B], got {score.shape} and {norm.shape}.")
    # The inner where keeps 0/0 out of the gradient; a NaN norm takes neither branch and stays NaN.
    bound = jnp.maximum(score, 0.0) / (2 * jnp.where(norm == 0, 1.0, norm))
    return jnp.where((norm == 0) & (score > 0), jnp.inf, bound)


def _correct(logits: jax.Array, label: jax.Array) -> jax.Array:
    right = jnp.argmax(logits, axis=-1) == jnp.argmax(label, axis=-1)
    # argmax names the first NaN: without this a network that diverged would score a tenth.
    return right & ~jnp.any(jnp.isnan(logits), axis=-1)


def _mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    return _sum(jnp.where(weight == 0, 0.0, values * weight)) / _total(weight)


def _total(weight: jax.Array) -> jax.Array:
    total = _sum(weight)
    return jnp.where(total == 0, 1.0, total)


def _sum(values: jax.Array) -> jax.Array:
    """The sum over the last axis, of blocks first: one by one, float32 drifts over many."""
    missing = -values.shape[-1] % _BLOCK
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return padded.reshape(*values.shape[:-1], -1, _BLOCK).sum(-1).sum(-1)


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
    logits, label = wide(logits), wide(label)
    weight = jnp.ones(logits.shape[:1]) if weight is None else jnp.asarray(weight)
    if weight.shape != logits.shape[:1]:
        raise ValueError(f"weight must be [B] with B = {logits.shape[0]}, got {weight.shape}.")
    # Whose label is all 0 has none, and does not count.
    weight = jnp.where(jnp.any(label > 0, axis=-1), weight, 0)
    return logits, label, weight.astype(logits.dtype)
