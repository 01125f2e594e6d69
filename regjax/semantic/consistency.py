"""ISDA's term on unlabelled examples, as a penalty beside other semi-supervised ones."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from regjax.core.checks import check_choice
from regjax.core.head_check import head_kernel
from regjax.core.point import Point
from regjax.core.second import Second
from regjax.core.stages import AtLeastZero, penalty
from regjax.semantic import bounds
from regjax.semantic.statistics import ClassStatistics


@penalty(over="unlabeled")
def semantic_consistency(
    point: Point,
    second: Second,
    base: dict[str, Any],
    *,
    strength: AtLeastZero | None = None,
    averages: str = "moved",
) -> jax.Array:
    """ISDA's bound on unlabelled images, whose predictions are to stay where features move.

    `sum_k p_k lse_j(z_j - z_k + lambda / 2 (w_j - w_k)' Sigma_y (w_j - w_k))`, with the likeliest
    class y and a target `p = softmax(z)`; see ISDA, eq. (15), in print without its lambda, and
    eq. (19), which is `isda(strength=...) | semantic_consistency(weight=...) | vat(weight=...)`.
    Sigma and lambda are the base's, `isda`'s, whose statistics are of labelled features.

    When it helps: beside the semi-supervised methods, with weight 0.5 to 2; the paper gains 0.5 to
    4 points on CIFAR. At strength 0 its gradient is 0. Cost: `C A^2` multiplications an image, on
    top of a pass that it shares with the other penalties of those.

    Args:
      loss: the loss to add to (positional), of base `isda`.
      weight: eta_1.
      strength: lambda; None for the base's.
      averages: as in `rj.pi_model`.

    Returns:
      A `Loss` with a penalty `[U]` over `batch.unlabeled`, nats.

    Raises:
      ValueError: the base has no class statistics of its own, no unlabelled examples, an unknown
        `averages`.

    Example:
      >>> import regjax as rj
      >>> rj.semantic_consistency(rj.isda(strength=0.5), weight=1.0)
      isda(strength=0.5) | semantic_consistency(weight=1.0)
    """
    check_choice("semantic_consistency's averages", averages, ("moved", "kept"))
    if "covariance" not in base or "strength" not in base:
        raise ValueError(
            "semantic_consistency takes its covariances from ISDA: put it on rj.isda(strength=...)."
        )
    state: ClassStatistics | None = point.base_state
    found = bounds.consistency_bound(
        second.outputs.logits,
        state,
        head_kernel(second.forward),
        strength=base["strength"] if strength is None else strength,
        shrinkage=base.get("shrinkage"),
        axis_name=base.get("axis_name"),
    )
    return jnp.mean(found.reshape(len(found), -1), axis=1)
