"""Two views of an image that are to agree, and certainty: what needs no memory."""

from __future__ import annotations

import jax

from regjax.consistency.distances import (
    cross_entropy_to,
    mean_prediction,
    prediction_entropy,
    squared_distance,
)
from regjax.core.axes import check_axis_name, is_mapped
from regjax.core.checks import check_choice
from regjax.core.keys import named_key
from regjax.core.second import Second
from regjax.core.stages import AtLeastZero, penalty

AVERAGES = ("moved", "kept")


@penalty(over="unlabeled")
def pi_model(
    second: Second,
    key: jax.Array,
    *,
    both: bool = True,
    shared: tuple[str, ...] = ("random_flip",),
    averages: str = "moved",
) -> jax.Array:
    """The Pi-model: the distance between the predictions for two views of an unlabelled image.

    `1/C sum_c (p_c - p'_c)^2`, where p and p' differ by augmentation, noise and dropout. See
    "Temporal Ensembling for Semi-Supervised Learning" (Laine and Aila, 2017), Algorithm 1; ISDA,
    section 5.

    When it helps: few labels and augmentation that keeps the class. The weight has to grow slowly
    from 0, to 100 for CIFAR ("sigmoid(epochs=80)" in `config.growing`), beside the mean loss of the
    labelled images. Cost: two passes for every unlabelled image.

    Args:
      loss: the loss to add to (positional).
      weight: the strength, w; the gradient is proportional to it.
      both: whether gradients flow through both views, as in the paper; else the second is a target.
      shared: the wrappers that draw alike in both views; the authors' program shares the flip.
      averages: "moved" where the pass over the first view moves BatchNorm's averages, "kept" where
        the labelled images alone do.

    Returns:
      A `Loss` with a penalty `[U]` over `batch.unlabeled`, squared probabilities.

    Raises:
      TypeError: `shared` is no tuple.
      ValueError: no unlabelled examples, wrappers with a state, an unknown `averages`, a name of no
        wrapper in `shared`.

    Example:
      >>> import regjax as rj
      >>> rj.pi_model(rj.cross_entropy(), weight=100.0)
      cross_entropy | pi_model(weight=100.0)
    """
    check_choice("pi_model's averages", averages, AVERAGES)
    logits = second.outputs.logits
    forward, batch = second.again(key, shared)
    other = forward(batch.image, named_key(key, "forward()")).logits
    return squared_distance(logits, other if both else jax.lax.stop_gradient(other))


@penalty(over="unlabeled")
def entropy(
    second: Second,
    *,
    balance: AtLeastZero = 0.0,
    averages: str = "kept",
    axis_name: str | None = None,
) -> jax.Array:
    """The entropy of the predictions for unlabelled images, which is to be small.

    `-sum_c p_c log p_c`; with balance b and the mean m of all predictions, a constant, plus
    `b sum_c p_c log m_c`, whose mean and first derivative are those of `-b` times m's entropy. With
    b = 1 it is minus the mutual information of image and class. See "Semi-supervised Learning by
    Entropy Minimization" (Grandvalet and Bengio, 2004); "Virtual Adversarial Training" (Miyato et
    al., 2018), section 4.3; of balance, "Learning Discrete Representations via Information
    Maximizing Self-Augmented Training" (Hu et al., 2017), with vat and b = 4.

    When it helps: beside `vat`, with weight 1. With a handful of labels classes swallow each other:
    a balance of some classes in a batch keeps all of them, where they are equally frequent. Cost: a
    pass for every unlabelled image, which it shares with the other penalties of those.

    Args:
      loss: the loss to add to (positional).
      weight: the strength.
      balance: b, what the entropy of the mean prediction counts beside that of each.
      averages: as in `pi_model`.
      axis_name: under `pmap` and `shard_map`, the axis over which the batch is split, so that the
        mean is that of all devices; without it, and where a gradient is accumulated, of each part.

    Returns:
      A `Loss` with a penalty `[U]` over `batch.unlabeled`, nats.

    Raises:
      ValueError: as `pi_model`; an axis that is not there.

    Example:
      >>> import regjax as rj
      >>> rj.entropy(rj.cross_entropy(), weight=0.1, balance=4.0)
      cross_entropy | entropy(weight=0.1, balance=4.0)
    """
    check_choice("entropy's averages", averages, AVERAGES)
    if axis_name is not None and not is_mapped(axis_name):
        check_axis_name(axis_name)
        axis_name = None  # there the mean is that of all by itself
    logits, weight = second.outputs.logits, second.batch.weight
    mean = mean_prediction(jax.lax.stop_gradient(logits), weight, axis_name)
    return prediction_entropy(logits) - balance * cross_entropy_to(mean, logits)
