"""Aleatoric uncertainty: logits with a deviation of their own, which a second head learns."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_keys, example_means
from regjax.core.draws import normal
from regjax.core.outputs import Outputs
from regjax.core.precision import wide
from regjax.core.stages import Count, base
from regjax.losses.cross_entropy import counted, log_probabilities

VARIANCES = ("log", "softplus")
_LARGEST = 10.0  # of a variance's logarithm, and its negative the least
_SMALL = -30.0  # below which softplus and exp are the same number
_LOWEST = -1e30  # in place of the logarithm of 0, whose derivative is not finite


@base
def aleatoric(
    outputs: Outputs,
    batch: Batch,
    key: jax.Array,
    *,
    samples: Count = 10,
    variance: str = "log",
) -> jax.Array:
    """Cross entropy of the softmax averaged over logits with noise of a learned deviation.

    `loss_i = -sum_c label_ic log(1/T sum_t softmax(f_i + sigma_i * e_it)_c)`, `e_it ~ N(0, I)`: of
    each class and sample its own. See "What Uncertainties Do We Need in Bayesian Deep Learning for
    Computer Vision?" (Kendall and Gal, 2017), eq. 12, and "Signed Input Regularization" (Taghanaki
    et al., 2019), eqs. 10 and 11, where the minus is left out. In expectation it falls with T.

    The deviations are what the network's second head makes of the image: the first of
    `outputs.auxiliary` that has a number for each class, or one for all of them, trained with the
    network: bind it by `regjax.flax.bind(model, head=..., auxiliary=("its path",))`. For dense
    predictions the mean over labelled positions. Each example draws by `batch.index`. Evaluation is
    by the logits themselves, or by `sampled_log_probabilities`.

    When it helps: labels that some images leave open, which the deviations then tell. Cost: `T B C`
    numbers and as many exponentials.

    Args:
      samples: T.
      variance: how the second head says it: its logarithm ("log", within -10 and 10), or what
        softplus makes a variance ("softplus").

    Returns:
      A `Loss` whose losses are `[B]`, in nats, not averaged.

    Raises:
      ValueError: no second head that has as many numbers as there are logits, or one; an unknown
        variance; `samples` below 1.

    Example:
      >>> import regjax as rj
      >>> rj.aleatoric(samples=20)
      aleatoric(samples=20)
    """
    sigma = deviations(outputs, variance)
    noise = normal(example_keys(key, batch), (samples, *outputs.logits.shape[1:]))
    log_p = sampled_log_probabilities(outputs.logits, sigma, noise)
    return example_means(-jnp.sum(counted(batch.label, log_p), -1), batch.label)


def deviations(outputs: Outputs, variance: str = "log") -> jax.Array:
    """The deviations of a network's logits, as its second head says them.

    Args:
      outputs: of a network with a second head, see `aleatoric`.
      variance: "log" or "softplus".

    Returns:
      `[B, C]`, or `[B, 1]` where one is for all classes, float32 at least, finite and positive (0
      where a softplus underflows).

    Raises:
      ValueError: no such head, or an unknown variance.

    Example:
      >>> from regjax.core.outputs import Branch, Outputs
      >>> outputs = Outputs(jnp.zeros((1, 2)), auxiliary=(Branch(jnp.log(jnp.array([[4.0, 9]]))),))
      >>> print(deviations(outputs).round())
      [[2. 3.]]
    """
    if variance not in VARIANCES:
        raise ValueError(f"variance must be one of {VARIANCES}, not {variance!r}.")
    raw = wide(_second(outputs))
    if variance == "log":
        return jnp.exp(jnp.clip(raw, -_LARGEST, _LARGEST) / 2)
    # By the logarithm, since the root of a softplus has no derivative where that is 0.
    near = jnp.log(jax.nn.softplus(jnp.maximum(raw, _SMALL)))
    return jnp.exp(jnp.where(raw > _SMALL, near, raw) / 2)


def sampled_log_probabilities(logits: jax.Array, sigma: jax.Array, noise: jax.Array) -> jax.Array:
    """The logarithm of the softmax, averaged over logits with noise.

    `log(1/T sum_t softmax(f + sigma e_t)_c)`, see `aleatoric`.

    Args:
      logits: f, `[B, ..., C]`.
      sigma: of that shape, or with a last axis of 1.
      noise: e, `[B, T, ..., C]`, standard normal, such as `regjax.core.draws.normal` draws.

    Returns:
      `[B, ..., C]`, nats, float32 at least; -1e30 or so in place of -inf.

    Example:
      >>> noise = jnp.array([[[0.5, -1.0], [-0.5, 1.0]]])
      >>> print(sampled_log_probabilities(jnp.zeros((1, 2)), jnp.ones((1, 1)), noise).round(4))
      [[-0.6931 -0.6931]]
    """
    log_p = log_probabilities(wide(logits)[:, None] + sigma[:, None] * noise)
    mean = jax.nn.logsumexp(jnp.maximum(log_p, _LOWEST), axis=1)
    return mean - jnp.log(jnp.asarray(noise.shape[1], mean.dtype))


def _second(outputs: Outputs) -> jax.Array:
    shape = outputs.logits.shape
    found = [branch.logits for branch in outputs.auxiliary]
    for raw in found:
        if raw.shape in (shape, (*shape[:-1], 1)):
            return raw
    raise ValueError(
        f"aleatoric needs a second head with a number for each class, {list(shape)}, or one for "
        f"all, but the network's auxiliary heads have {[list(x.shape) for x in found] or 'none'}: "
        "name one where the network is bound, regjax.flax.bind(model, head='...', auxiliary="
        "('...',)); experiments' networks have one by two_headed(model='...', "
        f"outputs={shape[-1]})."
    )
