"""Base losses that weigh examples by how probable their class is: more than it is, or less."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_means
from regjax.core.outputs import Outputs
from regjax.core.stages import AtLeastZero, Share, base
from regjax.losses.cross_entropy import counted, log_complements, log_probabilities


@base
def focal(
    outputs: Outputs, batch: Batch, *, gamma: AtLeastZero, alpha: AtLeastZero = 1.0
) -> jax.Array:
    """The focal loss: cross entropy that counts an example less, the surer the network is of it.

    `loss_i = -alpha sum_c label_ic (1 - p_ic)^gamma log p_ic`, `p = softmax(logits)`. See "Focal
    Loss for Dense Object Detection" (Lin et al., 2017), eqs. (4) and (5), here of several classes.
    Linear in the label, so that a soft label means the expectation over it; for dense predictions
    the mean over labelled positions. Its gradient by the logits is `alpha (1 - p_y)^(gamma - 1)
    (1 - p_y - gamma p_y log p_y) (p - label)`.

    When it helps: many easy examples beside few hard ones. Cost: as cross entropy.

    Args:
      gamma: how much less; 0 is cross entropy. ISDA compares with gamma 1 and alpha 0.5.
      alpha: one factor of all classes, which scales the loss, and so the weight decay beside it. To
        count classes differently is what `class_weights` is for.

    Returns:
      A `Loss` whose losses are `[B]`, in nats, not averaged.

    Raises:
      ValueError: gamma or alpha below 0.

    Example:
      >>> import regjax as rj
      >>> rj.focal(gamma=2.0)
      focal(gamma=2.0)
    """
    # Not the power of 1 - p, which has no derivative at 0.
    share = jnp.exp(gamma * log_complements(outputs.logits))
    terms = share * counted(batch.label, log_probabilities(outputs.logits))
    return example_means(-alpha * jnp.sum(terms, axis=-1), batch.label)


@base
def generalized_cross_entropy(
    outputs: Outputs, batch: Batch, *, q: Share, truncation: Share | None = None
) -> jax.Array:
    """The L_q loss, between cross entropy and the mean absolute error, for labels that are wrong.

    `loss_i = sum_c label_ic (1 - max(p_ic, truncation)^q) / q`, `p = softmax(logits)`: constant,
    and without a gradient, where the class is at most as probable as `truncation`. See "Generalized
    Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels" (Zhang and Sabuncu,
    2018), section 3. Linear in the label, so that a soft label means the expectation over it; for
    dense predictions the mean over labelled positions. Its gradient is that of cross entropy times
    `p_y^q`.

    The paper's truncated loss keeps, once every few epochs, the examples above the threshold, by
    the best network so far; here it is the network of this step.

    When it helps: some labels are wrong, which cross entropy would learn by heart. Cost: as cross
    entropy.

    Args:
      q: 0 is cross entropy, 1 half the mean absolute error. The paper takes 0.7; ISDA compares with
        0.4, not truncated.
      truncation: k, the paper's is 0.5; None for none.

    Returns:
      A `Loss` whose losses are `[B]`, not averaged; nats where q is 0.

    Raises:
      ValueError: q or truncation not between 0 and 1.

    Example:
      >>> import regjax as rj
      >>> rj.generalized_cross_entropy(q=0.7, truncation=0.5)
      generalized_cross_entropy(q=0.7, truncation=0.5)
    """
    log_p = jnp.where(batch.label == 0, 0, log_probabilities(outputs.logits))
    if truncation is not None:
        least = jnp.log(jnp.asarray(truncation, log_p.dtype))
        log_p = jnp.where(log_p <= least, least, log_p)
    power = jnp.where(q == 0, 1, q)
    terms = jnp.where(q == 0, -log_p, -jnp.expm1(power * log_p) / power)
    return example_means(jnp.sum(batch.label * terms, axis=-1), batch.label)
