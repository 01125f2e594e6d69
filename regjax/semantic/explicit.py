"""Semantic augmentation by sampling: features are really moved.

What `isda.py` bounds in closed form.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from regjax.core.axes import is_mapped
from regjax.core.batch import Batch, example_keys, example_means
from regjax.core.checks import check_count
from regjax.core.control import recomputed
from regjax.core.forward import Forward
from regjax.core.head_check import head_kernel
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, Count, Share, base
from regjax.losses.cross_entropy import counted, log_probabilities
from regjax.semantic.isda import State, check_state, init_statistics, updated
from regjax.semantic.statistics import Covariance, is_shared


def expected_loss(
    logits: jax.Array,
    label: jax.Array,
    covariance: Covariance | None,
    kernel: jax.Array,
    *,
    strength: float | jax.Array,
    samples: int,
    keys: jax.Array,
) -> jax.Array:
    """Monte Carlo estimate of the expected cross entropy under semantic augmentation.

    `mean_m -log softmax(z + W'e_m)_y`, `e_m ~ N(0, lambda Sigma_y)`; see ISDA, eqs. (5) and (6).
    In the mean it is at most `rj.semantic.upper_bound`. Of a soft label the class y is drawn, once
    for each example. Examples come one after another; each takes `M A (A + C)` multiplications.

    Args:
      logits: `[..., C]`, of the features as they are.
      label: `[..., C]` probabilities.
      covariance: `statistics.covariance.roots()`, of C classes, or of 1 that stands for all; None
        stands for the identity matrix.
      kernel: `[A, C]`, the last layer's weights.
      strength: lambda.
      samples: M.
      keys: `[...]`, one an example.

    Returns:
      `[...]`, nats, not averaged over examples; 0 where all of a label is 0, inf where the class
      that is drawn has a logit of -inf.

    Raises:
      ValueError: `samples` is no whole number of at least 1.

    Example:
      >>> z, y, keys = jnp.zeros((1, 2)), jnp.eye(2)[:1], jax.random.split(jax.random.key(0), 1)
      >>> loss = expected_loss(z, y, None, jnp.eye(2), strength=0.5, samples=9, keys=keys)
      >>> loss.shape
      (1,)
    """
    check_count("samples", samples)
    shape, classes = label.shape[:-1], label.shape[-1]
    kernel, strength = wide(kernel), jnp.asarray(strength, wide(kernel).dtype)
    # Twice where: the root's derivative at 0 is infinite, and would be NaN after the outer where.
    spread = jnp.where(strength > 0, jnp.sqrt(jnp.where(strength > 0, strength, 1)), 0)
    z, label = wide(logits).reshape(-1, classes), label.reshape(-1, classes)
    means = recomputed(functools.partial(_means, samples))
    # Keys of the older kind have an axis of their own.
    keys = keys.reshape(-1, *keys.shape[len(shape) :])
    return means(kernel, spread, covariance, z, label, keys).reshape(shape)


def _means(
    samples: int,
    kernel: jax.Array,
    spread: jax.Array,
    covariance: Covariance | None,
    *examples: jax.Array,
) -> jax.Array:
    """Each example's mean over its samples; `examples` are logits, labels and keys."""
    width = len(kernel) if covariance is None else covariance.width

    # Without the checkpoint, the derivative would keep all samples of all examples.
    @jax.checkpoint
    def one(example: tuple[jax.Array, ...]) -> jax.Array:
        z, label, key = example
        for_class, for_noise = jax.random.split(key)
        y = jax.random.categorical(for_class, jnp.log(label))
        normal = jax.random.normal(for_noise, (samples, width), kernel.dtype)
        noise = normal if covariance is None else covariance.noise(_row_of(y, covariance), normal)
        own = log_probabilities(z[None] + spread * (noise @ kernel))[:, y]
        # Equal terms, which strength 0 yields, have a mean that differs from them by rounding.
        first = jnp.where(jnp.isfinite(own[0]), own[0], 0)
        return -counted(jnp.sum(label), first + jnp.mean(own - first))

    return jax.lax.map(one, examples)


def _row_of(y: jax.Array, covariance: Covariance) -> jax.Array:
    return jnp.minimum(y, len(covariance[0]) - 1)


@base(init=init_statistics)
def explicit_augmentation(
    outputs: Outputs,
    batch: Batch,
    forward: Forward,
    key: jax.Array,
    state: State,
    part: jax.Array,
    *,
    strength: AtLeastZero,
    samples: Count,
    covariance: str = "full",
    rank: Count | None = None,
    decay: Share | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, State]:
    """Explicit semantic data augmentation: cross entropy of features that are really moved.

    `loss_i = 1/M sum_m -log softmax(W'(a_i + e_m) + b)_y`, `e_m ~ N(0, strength Sigma_y)`. See
    ISDA, eq. (5) and section 6.5.3; its limit for many samples is what `isda` bounds. Of a soft
    label, each example draws the class y.

    When it helps: to see what `isda` gains (Fig. 10); it needs many samples to come near it. Cost:
    `B M A (A + C)` multiplications and `C` Cholesky factorisations of `A x A` matrices a step.

    Args:
      strength: lambda, as in `isda`.
      samples: M.
      covariance: as in `isda`.
      rank: as in `isda`.
      decay: as in `isda`.
      axis_name: under `pmap` and `shard_map`, the axis over which the batch is split; every device
        keeps all statistics.

    Returns:
      A `Loss` with losses `[B]`, in nats, not averaged; its state is that of `isda`.

    Raises:
      ValueError: as `isda`; `samples` below 1; statistics that are split by class; an axis that is
        not mapped.

    Example:
      >>> import regjax as rj
      >>> rj.explicit_augmentation(strength=0.5, samples=5)
      explicit_augmentation(strength=0.5, samples=5)
    """
    kernel = head_kernel(forward)
    check_state(state, covariance, rank)
    if axis_name is not None and not is_mapped(axis_name):
        raise ValueError(
            f"axis_name={axis_name!r} is not an axis of a pmap or shard_map around the loss; under "
            "jit alone, explicit_augmentation needs none."
        )
    state = updated(state, outputs, batch, decay, axis_name, part)
    if state is not None and not is_shared(state) and len(state.seen) < kernel.shape[1]:
        raise ValueError("explicit_augmentation needs all classes' statistics on each device.")
    losses = expected_loss(
        outputs.logits,
        batch.label,
        None if state is None else state.covariance.roots(),
        kernel,
        strength=strength,
        samples=samples,
        keys=position_keys(key, batch),
    )
    return example_means(losses, batch.label), state


def position_keys(key: jax.Array, batch: Batch) -> jax.Array:
    """Keys of one example's positions each, from a batch's key.

    Args:
      key: of the batch.
      batch: whose labels are `[B, ..., C]`.

    Returns:
      One key for each label, `[B, ...]`; without positions those of `example_keys`.
    """
    keys, positions = example_keys(key, batch), batch.label.shape[1:-1]
    return jax.vmap(lambda k: jax.random.split(k, positions))(keys) if positions else keys
