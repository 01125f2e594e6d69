"""Semantic augmentation along directions that are trained with the network."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from regjax.core.axes import varying_as
from regjax.core.batch import Batch, example_means
from regjax.core.control import when
from regjax.core.forward import Forward
from regjax.core.head_check import head_kernel, no_state
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, Count, Unbounded, base
from regjax.semantic.bounds import upper_bound
from regjax.semantic.covariance import Full
from regjax.semantic.explicit import expected_loss, position_keys


@base(init=no_state)
def learned_augmentation(
    outputs: Outputs,
    batch: Batch,
    forward: Forward,
    key: jax.Array,
    state: None,
    *,
    samples: Count | None,
    uncertainty: AtLeastZero,
    margin: Unbounded,
    factor: Unbounded | None = None,
    parameter: str | None = None,
) -> tuple[jax.Array, None]:
    """Semantic augmentation by learned covariances, kept from vanishing by their entropy.

    `loss_i = 1/M sum_m -log softmax(W'(a_i + D_y u_m) + b)_y + uncertainty max(0, margin - H_y)`
    with `u_m ~ N(0, I)` and `H_c = 1/2 log det(2 pi e (D_c D_c' + 1e-6 I))`, the entropy of class
    c's moves. Without samples, ISDA's bound of their mean is in its place, eq. (7) with
    `Sigma = D D'`. See ISDA, section 6.5.3, and the feature uncertainty loss of "Robust person
    re-identification by modelling feature uncertainty" (Yu et al., 2019). `D` is trained with the
    parameters: it is one of them, by name, or an array that is differentiated, of which the loss is
    built inside the objective.

    When it helps: as a rival; the paper finds estimated covariances better. Cost: as
    `explicit_augmentation`; under the bound, `C A^2` multiplications for each class in the batch,
    and C products and Cholesky factorisations of `A x A` matrices.

    Args:
      samples: M, or None for the bound.
      uncertainty: the weight of the uncertainty term.
      margin: the entropy up to which it acts, nats.
      factor: D, `[C, A, A]`, `Sigma = D D'`; a number stands for that multiple of the identity.
      parameter: in place of `factor`, the path of D among the network's parameters.

    Returns:
      A `Loss` with losses `[B]`, in nats, not averaged.

    Raises:
      ValueError: a network without a named head, or whose logits are not `features @ kernel +
        bias`; a factor of another shape, both or none of `factor` and `parameter`, no parameter of
        that path; `samples` below 1.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> head = lambda kernel: (kernel, None)
      >>> forward = rj.from_function(lambda k, x: (x @ k, x), jnp.eye(2), head=head)
      >>> batch = rj.Batch(jnp.ones((1, 2)), jnp.array([[1.0, 0.0]]))
      >>> def objective(factor):
      ...     loss = rj.learned_augmentation(factor=factor, samples=2, uncertainty=0.1, margin=9.0)
      ...     result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
      ...     return rj.total(result, batch)
      >>> jax.grad(objective)(jnp.zeros((2, 2, 2))).shape
      (2, 2, 2)
    """
    kernel = head_kernel(forward)
    features, classes = kernel.shape
    factor = jnp.asarray(_factor(forward, factor, parameter), kernel.dtype)
    if factor.shape not in ((), (classes, features, features)):
        raise ValueError(
            f"learned_augmentation's factor must be a number or [C, A, A], here "
            f"{[classes, features, features]}, but it is {list(factor.shape)}."
        )
    eye = jnp.eye(features, dtype=kernel.dtype)
    factor = factor if factor.ndim else jnp.broadcast_to(factor * eye, (classes, *eye.shape))
    if samples is None:
        losses = upper_bound(outputs.logits, batch.label, _spread(factor, kernel, batch.label))
    else:
        keys = position_keys(key, batch)
        losses = expected_loss(
            *(outputs.logits, batch.label, Full(factor), kernel),
            strength=1.0,
            samples=samples,
            keys=keys,
        )
    lacking = uncertainty * jnp.maximum(margin - _entropies(factor), 0)
    return example_means(losses + wide(batch.label) @ lacking, batch.label), state


def _factor(forward: Forward, factor: Any, parameter: str | None) -> Any:
    if (factor is None) == (parameter is None):
        raise ValueError(
            "learned_augmentation needs its covariances once: factor=, an array or a number, or "
            "parameter=, the path of one of the network's parameters."
        )
    return factor if parameter is None else forward.parameter(parameter)


def _entropies(factor: jax.Array) -> jax.Array:
    """Of the normal distributions with the covariances `D D' + 1e-6 I`, `[C]`, nats."""
    features = factor.shape[-1]
    floor = 1e-6 * jnp.eye(features, dtype=factor.dtype)

    @jax.checkpoint
    def log_root(d: jax.Array) -> jax.Array:
        return jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(d @ d.T + floor))))

    constant = 0.5 * features * math.log(2 * math.pi * math.e)
    return jax.lax.map(log_root, factor) + constant


@jax.default_matmul_precision("highest")
def _spread(factor: jax.Array, kernel: jax.Array, label: jax.Array) -> jax.Array:
    """Half of `|D_c'(w_j - w_c)|^2` for each class c that occurs, `[C, C]`."""
    classes = kernel.shape[1]
    kernel = wide(kernel)
    present = jnp.any(label.reshape(-1, classes) > 0, axis=0)
    # Here, or the devices would add up each class's derivatives by themselves.
    kernel, factor = (varying_as(x, present) for x in (kernel, factor))

    def of_class(d: jax.Array, kernel: jax.Array, c: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum((d.T @ (kernel - kernel[:, c][:, None])) ** 2, axis=0)

    @jax.checkpoint
    def one(each: tuple[jax.Array, ...]) -> jax.Array:
        here, d, c = each
        return when(here, of_class, d, kernel, c)

    return jax.lax.map(one, (present, factor, jnp.arange(classes)))
