"""DistributionNet: features with a deviation of their own, which a second head learns."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_keys, example_means
from regjax.core.forward import Forward
from regjax.core.head_check import head_features, head_kernel, no_state
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, Count, base
from regjax.losses.cross_entropy import counted, log_probabilities

_SMALL = -30.0  # below which softplus and exp are the same number


@base(init=no_state)
def distribution_net(
    outputs: Outputs,
    batch: Batch,
    forward: Forward,
    key: jax.Array,
    state: None,
    *,
    samples: Count = 1,
    sampled: AtLeastZero = 0.1,
    uncertainty: AtLeastZero = 0.001,
    deviation: AtLeastZero = 5.0,
) -> tuple[jax.Array, None]:
    """DistributionNet: cross entropy of features, and of features moved by learned deviations.

    `loss_i = CE(a_i) + sampled / samples sum_n CE(a_i + s_i * e_n) + uncertainty max(0, log(
    deviation) - mean_d log s_id)`, `e_n ~ N(0, I)`, with one last layer for all. The deviations
    `s_i = softplus(h_i)`, `[A]`, are what the network's second head makes of the image; the last
    term keeps them from vanishing. See "Robust Person Re-Identification by Modelling Feature
    Uncertainty" (Yu et al., 2019), where the margin is said by the entropy of the distribution,
    `log(deviation) + (1 + log 2 pi) / 2` for each feature. Evaluation is by the features
    themselves.

    The second head is the first of `outputs.auxiliary`, trained with the network: bind it by
    `regjax.flax.bind(model, head=..., auxiliary=("its path",))`. The authors train it, a
    convolution over the whole last map, in a second stage, with little of the network. Cross
    entropy is linear in the label, so that a soft label means the expectation over it; for dense
    predictions the mean over labelled positions. Each example draws by `batch.index`.

    When it helps: outliers and wrong labels, whose deviations grow. Cost: `B A (H + samples C)`
    multiplications for a second head of H inputs.

    Args:
      samples: N; 1 in the authors' program.
      sampled: the weight of the moved features' loss, 0.1 there.
      uncertainty: the weight of the last term, 0.001 there.
      deviation: up to which the geometric mean of an example's deviations is pushed, 5 there.

    Returns:
      A `Loss` with losses `[B]`, in nats, not averaged.

    Raises:
      ValueError: a network without a named head or without features, or whose logits are not
        `features @ kernel + bias`; no second head, or one that has not A numbers; `samples` below
        1.

    Example:
      >>> import regjax as rj
      >>> rj.distribution_net(samples=2)
      distribution_net(samples=2)
    """
    features, kernel = head_features(outputs), head_kernel(forward)
    raw, logits = _second(outputs, features), wide(outputs.logits)
    # The logarithm of softplus, which is 0 in floating point where its logarithm is not.
    near = jnp.log(jax.nn.softplus(jnp.maximum(raw, _SMALL)))
    log_s = jnp.where(raw > _SMALL, near, raw)
    lacking = jnp.maximum(jnp.log(jnp.asarray(deviation, raw.dtype)) - jnp.mean(log_s, -1), 0)

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (samples, *raw.shape[1:]), raw.dtype)

    noise = jax.vmap(draw)(example_keys(key, batch))
    moved = logits[:, None] + (jnp.exp(log_s)[:, None] * noise) @ kernel
    plain = _cross_entropy(logits, batch.label)
    of_moved = jnp.mean(_cross_entropy(moved, batch.label[:, None]), axis=1)
    losses = plain + sampled * of_moved + uncertainty * lacking
    return example_means(losses, batch.label), state


def _cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    return -jnp.sum(counted(label, log_probabilities(logits)), -1)


def _second(outputs: Outputs, features: jax.Array) -> jax.Array:
    """What the second head makes of the image, one number a feature."""
    if not outputs.auxiliary or outputs.auxiliary[0].logits.shape != features.shape:
        found = [list(branch.logits.shape) for branch in outputs.auxiliary]
        raise ValueError(
            f"distribution_net needs a second head with one number a feature, "
            f"{list(features.shape)}, but the network's auxiliary heads have {found or 'none'}: "
            "name one where the network is bound, regjax.flax.bind(model, head='...', "
            "auxiliary=('...',)); experiments' networks have one by two_headed(model='...')."
        )
    return wide(outputs.auxiliary[0].logits)
