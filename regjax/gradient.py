"""Penalties on derivatives with respect to the input, all computed from one linearisation.

Every one is a squared norm of vector-Jacobian products, `sum_k ||J' A e_k||^2 = Tr(J' A A' J)`,
where `J [C, D]` is the Jacobian of an example's logits: `A = I` for the logits themselves, `A = H`
for the softmax output and `A A' = H` for the Hessian-scaled trace, with `H = diag(p) - pp'`. The
exact sum takes C backward passes; `probes` random signs in place of the unit vectors take one each,
and estimate value and parameter gradient without bias, as their draw depends on no parameter.

In training mode BatchNorm couples the examples of a batch: as in the papers' programs, the gradient
of the summed loss is taken in that mode. `statistics="frozen"` takes the running averages instead,
where examples are independent, at the price of a second forward pass. In training mode probes draw
signs of their own for every example, so their mean lacks the products of two examples' derivatives:
it is `sum_j ||A_j d logits_j / d x_i||^2`, where the exact term squares the sum over j.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from regjax.base import Batch, Point, example_keys, shares
from regjax.eager import eager_sum
from regjax.losses import log_probabilities
from regjax.stages import penalty

Linear = Callable[[jax.Array], jax.Array]


def squared_norm(x: jax.Array) -> jax.Array:
    """The squared Euclidean norm of each example, `sum x^2` over all axes but the first.

    Args:
      x: `[B, ...]`.

    Returns:
      `[B]`, float32 at least; its gradient at zero is zero.

    Example:
      >>> print(squared_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
      [25.  0.]
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.sum(x * x, axis=tuple(range(1, x.ndim)))


def softmax_jacobian(logits: jax.Array) -> Linear:
    """The Jacobian of the softmax output as a linear map, `z -> H z = p * (z - p.z)`.

    It is also the Hessian of cross entropy; see the thesis, section 6.1.

    Args:
      logits: `[B, C]`.

    Returns:
      A function from `z [B, C]` to `H z [B, C]`.

    Example:
      >>> print(softmax_jacobian(jnp.zeros((1, 2)))(jnp.array([[1.0, 0.0]])))
      [[ 0.25 -0.25]]
    """
    p = jnp.exp(log_probabilities(logits))
    return lambda z: p * (z - jnp.sum(p * z, axis=-1, keepdims=True))


def hessian_root(logits: jax.Array) -> Linear:
    """A square root of cross entropy's Hessian as a linear map, `z -> sqrt(p) z - p (sqrt(p).z)`.

    `A = diag(sqrt(p)) - p sqrt(p)'` has `A A' = diag(p) - pp' = H`.

    Args:
      logits: `[B, C]`.

    Returns:
      A function from `z [B, C]` to `A z [B, C]`.

    Example:
      >>> print(hessian_root(jnp.zeros((1, 2)))(jnp.array([[1.0, 0.0]])).round(4))
      [[ 0.3536 -0.3536]]
    """
    # Through the logarithm, because sqrt(p) has an infinite derivative where p underflows to 0.
    log_p = log_probabilities(logits)
    root, p = jnp.exp(0.5 * log_p), jnp.exp(log_p)
    return lambda z: root * z - p * jnp.sum(root * z, axis=-1, keepdims=True)


def exact_trace(pullback: Linear, factor: Linear, classes: int, size: int) -> jax.Array:
    """`Tr(J' A A' J)` of each example by C backward passes, one unit vector each.

    Args:
      pullback: `[B, C] -> [B, ...]`, the vector-Jacobian product of the logits.
      factor: `z -> A z`, `[B, C] -> [B, C]`.
      classes: C.
      size: B.

    Returns:
      `[B]`, float32 at least.

    Example:
      >>> kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]])  # logits = x @ kernel
      >>> print(exact_trace(lambda c: c @ kernel.T, lambda z: z, classes=2, size=1))
      [30.]
    """

    def unit(k: jax.Array) -> jax.Array:
        return jnp.broadcast_to(jax.nn.one_hot(k, classes), (size, classes))

    return jnp.sum(_squared_norms(pullback, factor, unit, classes), axis=0)


def mean_exact_trace(pullback: Linear, factor: Linear, classes: int, share: jax.Array) -> jax.Array:
    """The mean of `exact_trace` over a batch, in a fraction of its memory when differentiated.

    `sum_i share_i Tr(J_i' A A' J_i)`. The derivative is accumulated with the value, class by class,
    which is possible only because the shares are known beforehand.

    Args:
      pullback: `[B, C] -> [B, ...]`, the vector-Jacobian product of the logits.
      factor: `z -> A z`, `[B, C] -> [B, C]`.
      classes: C.
      share: `[B]`, the weights of the mean; they sum to 1.

    Returns:
      A scalar, float32 at least.

    Example:
      >>> kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]])  # logits = x @ kernel
      >>> print(mean_exact_trace(lambda c: c @ kernel.T, lambda z: z, 2, jnp.ones(1)))
      30.0
    """

    def term(k: jax.Array) -> jax.Array:
        unit = jnp.broadcast_to(jax.nn.one_hot(k, classes), (len(share), classes))
        return jnp.sum(share * squared_norm(pullback(factor(unit))))

    return eager_sum(term, classes)


def probed_traces(
    pullback: Linear, factor: Linear, classes: int, keys: jax.Array, probes: int
) -> jax.Array:
    """Independent unbiased estimates of `Tr(J' A A' J)` by random signs, one backward pass each.

    `E ||J' A z||^2 = Tr(J' A A' J)` for Rademacher `z`; see "A stochastic estimator of the trace of
    the influence matrix" (Hutchinson, 1990).

    Args:
      pullback: `[B, C] -> [B, ...]`, the vector-Jacobian product of the logits.
      factor: `z -> A z`, `[B, C] -> [B, C]`.
      classes: C.
      keys: `[B]`, one key an example.
      probes: how many estimates.

    Returns:
      `[probes, B]`, float32 at least.

    Example:
      >>> kernel, keys = jnp.eye(2), jax.random.split(jax.random.key(0), 1)
      >>> print(probed_traces(lambda c: c @ kernel.T, lambda z: z, 2, keys, probes=3).mean(0))
      [2.]
    """

    def signs(k: jax.Array) -> jax.Array:
        keys_k = jax.vmap(jax.random.fold_in, (0, None))(keys, k)
        return jax.vmap(lambda key: jax.random.rademacher(key, (classes,), float))(keys_k)

    return _squared_norms(pullback, factor, signs, probes)


def _squared_norms(pullback: Linear, factor: Linear, direction: Linear, count: int) -> jax.Array:
    def one(k: jax.Array) -> jax.Array:
        return squared_norm(pullback(factor(direction(k))))

    if count == 1:
        return one(jnp.zeros((), jnp.int32))[None]
    # One direction at a time: all at once would hold `count` copies of the network's activations.
    # Saving only the products makes the derivative repeat elementwise work and nothing else.
    step = jax.checkpoint(one, policy=_saves_products)
    return jax.lax.map(step, jnp.arange(count))


def _saves_products(primitive: Primitive, *_: object, **__: object) -> bool:
    # A convolution with derivatives of its own is known by its name (experiments has such ones).
    name = primitive.name
    return name in ("dot_general", "conv_general_dilated") or name.startswith("convolution")


@penalty
def double_backprop(point: Point, *, statistics: str = "batch") -> jax.Array:
    """Penalizes the gradient of the loss with respect to the input.

    `||d loss_i / d x_i||^2`. See the thesis, eq. (49); "Improving generalization performance using
    double backpropagation" (Drucker and LeCun, 1992). One backward pass.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      statistics: `"batch"` or `"frozen"`, how BatchNorm normalises (see the module).

    Returns:
      A `Loss` with a penalty `[B]`, squared nats per squared unit of the input.

    Raises:
      ValueError: at trace time, `statistics` is neither.

    Example:
      >>> import regjax as rj
      >>> rj.double_backprop(rj.cross_entropy(), weight=0.01)
      cross_entropy | double_backprop(weight=0.01)
    """
    point = _standing(point, statistics)
    return squared_norm(point.pullback(point.loss_cotangent()))


@penalty
def jacobian(
    point: Point,
    batch: Batch,
    key: jax.Array,
    *,
    probes: int | None = None,
    statistics: str = "batch",
) -> jax.Array:
    """Penalizes the Jacobian of the softmax output with respect to the input.

    `||J_f||_F^2 = Tr(J' H H J)`. See the thesis, eq. (50); "Robust large margin deep neural
    networks" (Sokolic et al., 2017).

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      probes: None for the exact norm, or how many random probes estimate it without bias.
      statistics: `"batch"` or `"frozen"`, how BatchNorm normalises (see the module).

    Returns:
      A `Loss` with a penalty per squared unit of the input: `[B]` with probes, a scalar, the mean,
      without.

    Raises:
      ValueError: at trace time, `probes` or `statistics` is none of these.

    Example:
      >>> import regjax as rj
      >>> rj.jacobian(rj.cross_entropy(), weight=0.01, probes=1)
      cross_entropy | jacobian(weight=0.01, probes=1)
    """
    point = _standing(point, statistics)
    return _trace(point, batch, key, softmax_jacobian(point.outputs.logits), probes)


@penalty
def frobenius(
    point: Point,
    batch: Batch,
    key: jax.Array,
    *,
    probes: int | None = None,
    statistics: str = "batch",
) -> jax.Array:
    """Penalizes the Jacobian of the logits with respect to the input.

    `||J_g||_F^2 = Tr(J' J)`. See the thesis, eq. (56); "Robust Learning with Jacobian
    Regularization" (Hoffman et al., 2019), whose program takes half of it.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      probes: None for the exact norm, or how many random probes estimate it without bias.
      statistics: `"batch"` or `"frozen"`, how BatchNorm normalises (see the module).

    Returns:
      A `Loss` with a penalty in squared logits per squared unit of the input: `[B]` with probes, a
      scalar, the mean, without.

    Raises:
      ValueError: at trace time, `probes` or `statistics` is none of these.

    Example:
      >>> import regjax as rj
      >>> rj.frobenius(rj.cross_entropy(), weight=0.01)
      cross_entropy | frobenius(weight=0.01)
    """
    point = _standing(point, statistics)
    return _trace(point, batch, key, lambda z: z, probes)


@penalty
def hessian_frobenius(
    point: Point,
    batch: Batch,
    key: jax.Array,
    *,
    power: int = 1,
    probes: int | None = None,
    statistics: str = "batch",
) -> jax.Array:
    """Penalizes the Jacobian of the logits scaled by the Hessian of cross entropy.

    `Tr(J' H J)^power`, for power 1 twice the expected gain of cross entropy under small unit noise.
    See the thesis, eqs. (62), (63) and, with power 2, (66). hsfob-db1 and hsfob-db2 are
    `double_backprop(hessian_frobenius(loss, weight=w, power=power), weight=w)`.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, lambda.
      power: 1, or 2 for the squared trace.
      probes: None for the exact trace, or how many random probes estimate it without bias; the
        squared trace needs at least 2, since it is the product of independent estimates.
      statistics: `"batch"` or `"frozen"`, how BatchNorm normalises (see the module).

    Returns:
      A `Loss` with a penalty in nats per squared unit of the input, to the `power`: a scalar, the
      mean, with power 1 and no probes, else `[B]`.

    Raises:
      ValueError: at trace time, an argument is none of these.

    Example:
      >>> import regjax as rj
      >>> rj.hessian_frobenius(rj.cross_entropy(), weight=0.01, power=2)
      cross_entropy | hessian_frobenius(weight=0.01, power=2)
    """
    if power not in (1, 2):
        raise ValueError(f"hessian_frobenius's power must be 1 or 2, but it is {power!r}.")
    point = _standing(point, statistics)
    return _trace(point, batch, key, hessian_root(point.outputs.logits), probes, power)


def _standing(point: Point, statistics: str) -> Point:
    if statistics not in ("batch", "frozen"):
        raise ValueError(f"statistics must be 'batch' or 'frozen', but it is {statistics!r}.")
    return point if statistics == "batch" else point.frozen


def _trace(
    point: Point,
    batch: Batch,
    key: jax.Array,
    factor: Linear,
    probes: int | None,
    power: int = 1,
) -> jax.Array:
    size, classes = batch.label.shape
    if probes is None and power == 1:
        return mean_exact_trace(point.pullback, factor, classes, shares(batch))
    if probes is None:
        return exact_trace(point.pullback, factor, classes, size) ** power
    if not isinstance(probes, int) or probes < power:
        raise ValueError(
            f"probes must be None or a whole number of at least {power}, but it is {probes!r}."
        )
    traces = probed_traces(point.pullback, factor, classes, example_keys(key, batch), probes)
    if power == 1:
        return jnp.mean(traces, axis=0)
    # The mean over pairs of different probes: the square of the mean is biased by its variance.
    pairs = jnp.sum(traces, axis=0) ** 2 - jnp.sum(traces**2, axis=0)
    return pairs / (probes * (probes - 1))
