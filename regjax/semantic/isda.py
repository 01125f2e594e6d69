"""Implicit semantic data augmentation (ISDA).

The mathematics is in `bounds.py`, the statistics in `statistics.py`. ISDA is "Regularizing Deep
Networks with Semantic Data Augmentation" (Wang et al., 2021).

Errata: in print, eq. (7) lacks lambda, which the proof has. In the appendix, eq. (4) has the sign
of its second case reversed, and eq. (5) is right only if its sum over n carries each class's own
gradient, in the sign that eq. (4) prints; its second case needs the right sign. With `p` the
softmax of the moved logits, `d_j = w_j - w_y` and `e` the label:
`dL/dz_j = p_j - e_j`, `dL/dw_j = p_j (a + lambda Sigma d_j)` for j other than y,
`dL/dw_y = (p_y - 1) a - lambda sum_n p_n Sigma d_n`, and `dL/da = sum_j w_j dL/dz_j`, eq. (6).
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from regjax.core import auxiliary as others
from regjax.core.batch import Batch
from regjax.core.forward import Forward
from regjax.core.head_check import check_head, head_features, head_kernel
from regjax.core.outputs import Outputs
from regjax.core.stages import AtLeastZero, Count, Number, Share, base
from regjax.semantic import bounds as semantic
from regjax.semantic import dense, statistics
from regjax.semantic.covariance import KINDS, LowRank

State = statistics.ClassStatistics | None
States = tuple[State, ...]


def init_heads(
    forward: Forward, batch: Batch, *, auxiliary: Number | None, **options: Any
) -> State | States:
    """The main head's statistics; with auxiliary heads, a tuple of its and theirs."""
    if auxiliary is None:
        return init_statistics(forward, batch, **options)
    heads = (forward, *others.branches(forward))
    return tuple(init_statistics(each, batch, **options) for each in heads)


def init_statistics(
    forward: Forward,
    batch: Batch,
    *,
    covariance: str,
    rank: int | None,
    decay: Number | None,
    shrinkage: Number | None = None,
    axis_name: str | None = None,
    resizing: str | None = None,
    **_: Any,
) -> State:
    """Statistics of nothing, of the size of the network's last layer; None for the identity."""
    kernel = jax.eval_shape(lambda: head_kernel(forward))
    check_head(forward, batch.image, resizing)
    if covariance == "identity":
        for name, given in (("rank", rank), ("decay", decay), ("shrinkage", shrinkage)):
            if given is not None:
                raise ValueError(f"covariance='identity' has no statistics, hence no {name}.")
        return None
    features, classes = kernel.shape
    empty = statistics.init(
        1 if covariance == "shared" else classes,
        features,
        covariance=covariance,
        rank=rank,
        pooled=shrinkage is not None,
        dtype=kernel.dtype,
    )
    return statistics.placed(empty, axis_name, classes)


def check_state(
    state: State, covariance: str, rank: int | None = None, shrinkage: Number | None = None
) -> None:
    """Refuses, at trace time, the state of a loss with another covariance, rank or shrinkage."""
    kind = None if state is None else type(state.covariance)
    fits = kind is KINDS.get(covariance)
    if fits and state is not None:
        has_rank = isinstance(state.covariance, LowRank)
        fits = (state.pooled is None) == (shrinkage is None)
        fits = fits and (not has_rank or state.covariance.width == rank)
    if not fits:
        raise ValueError(
            f"the state is not one of covariance={covariance!r} with this rank and shrinkage: make "
            "it with loss.init(forward, batch)."
        )


def updated(
    state: State,
    outputs: Outputs,
    batch: Batch,
    decay: Number | None,
    axis_name: str | None,
    part: jax.Array,
) -> State:
    """The statistics with the batch, which ISDA uses in the same step (Algorithm 1).

    Of a batch in parts only the first forgets, so that all together leave what the whole would.
    """
    if state is None:
        return None
    features, label = head_features(outputs), batch.label
    if statistics.is_shared(state):
        label = jnp.sum(label, -1, keepdims=True)
    return statistics.update(
        state,
        features,
        label,
        weight=batch.weight,
        decay=None if decay is None else jnp.where(part == 0, decay, 1),
        axis_name=axis_name,
    )


@base(init=init_heads)
def isda(
    outputs: Outputs,
    batch: Batch,
    forward: Forward,
    state: State | States,
    part: jax.Array,
    *,
    strength: AtLeastZero,
    covariance: str = "full",
    rank: Count | None = None,
    decay: Share | None = None,
    shrinkage: Share | None = None,
    axis_name: str | None = None,
    auxiliary: AtLeastZero | None = None,
    resizing: str = dense.DEFAULT,
) -> tuple[jax.Array, State | States]:
    """Implicit semantic data augmentation: features moved in all ways in which their class varies.

    `loss_i = -log(exp(z_iy) / sum_j exp(z_ij + strength / 2 (w_j - w_y)' Sigma_y (w_j - w_y)))`, an
    upper bound of the expected cross entropy of features drawn from `N(a_i, strength Sigma_y)`. See
    ISDA, eq. (7), and for the covariances, which see the batch first, eqs. (1) to (3). Soft labels
    mean the expectation over the label, dense predictions the mean over labelled positions.

    Where a network enlarges its logits `[B, h, w, C]` to those of dense labels `[B, H, W, C]`,
    statistics and spread are taken at the features' h x w, with the nearest labels, and the moved
    logits are enlarged, as in section 6.4. There, the spread of a mixed label is its mean.

    When it helps: few examples a class, wide features; the paper gains 0.2 to 1.6 points on CIFAR.
    Cost: 1.0 plain steps: with "full" `2 C A^2` multiplications for each class in the batch and
    `A^2` for each example, with "diagonal" `5 C A` for each class. Memory: `C A^2` numbers with
    "full", `C A` with "diagonal".

    Args:
      strength: lambda; the paper lets it grow, `optax.linear_schedule(0, 0.5, steps)`, to 0.5 with
        full covariances on CIFAR. The authors' program takes 1 to 7.5 with diagonals on ImageNet:
        the scales differ.
      covariance: "full", or of Table 8 "diagonal", "shared" (of all features, whatever their
        class) and "identity"; or "low_rank", a sketch of each class's matrix.
      rank: of "low_rank", the sketch's rows.
      decay: what an earlier example still counts after each step; None never forgets, as the paper.
      shrinkage: between 0 and 1, the share of the classes' mean covariance in each class's, for
        classes with few examples; "full" and "diagonal" only. None for none, as the paper.
      axis_name: under `pmap` and `shard_map`, the axis over which the batch is split, so that all
        devices have the statistics of all. The state may be whole on each or split by class
        (`rj.statistics.places`). Under `jit`, an axis of the mesh that `jax.set_mesh` set, over
        which the state is split by class; without it nothing need be said.
      auxiliary: what the same loss of each auxiliary head, with statistics of its own, counts
        beside the main one's, 0.4 in section 6.4; None leaves them out, as `rj.cross_entropy`.
      resizing: how the network enlarges logits, bilinearly: "align_corners", "half_pixel", or
        "as_in_program", whose nearest labels are others (see `regjax/core/resizing.py`).

    Returns:
      A `Loss` with losses `[B]`, in nats, not averaged; its state is `rj.statistics.
      ClassStatistics`, None for "identity", with `auxiliary` a tuple of one for each head.

    Raises:
      ValueError: a network without a named head or without features, or whose logits are not
        `features @ kernel + bias`; arguments that do not go together.

    Example:
      >>> import optax, regjax as rj
      >>> rj.isda(strength=optax.linear_schedule(0.0, 0.5, 1000)).stages[0].definition.name
      'isda'
      >>> rj.isda(strength=0.5, covariance="diagonal")
      isda(strength=0.5, covariance='diagonal')
    """
    own: dict[str, Any] = {"strength": strength, "covariance": covariance, "rank": rank}
    own |= {"decay": decay, "shrinkage": shrinkage, "axis_name": axis_name, "resizing": resizing}
    if auxiliary is None:
        return _of_head(outputs, batch, forward, cast(State, state), part, **own)
    seen = (outputs, *others.seen_from(outputs, batch))
    heads = (forward, *others.branches(forward))
    if len(heads) != len(seen):
        raise ValueError(
            f"the network has {len(seen) - 1} auxiliary outputs, but {len(heads) - 1} of their "
            "linear layers are named: name them where it is bound, regjax.flax.bind(model, "
            "head='...', auxiliary=('...',))."
        )
    found = [
        _of_head(each, batch, head, its, part, **own)
        for each, head, its in zip(seen, heads, cast(States, state), strict=True)
    ]
    losses, states = zip(*found, strict=True)
    return others.summed(list(losses), auxiliary), states


def _of_head(
    outputs: Outputs,
    batch: Batch,
    forward: Forward,
    state: State,
    part: jax.Array,
    *,
    strength: Number,
    covariance: str,
    rank: int | None,
    decay: Number | None,
    shrinkage: Number | None,
    axis_name: str | None,
    resizing: str,
) -> tuple[jax.Array, State]:
    kernel = head_kernel(forward)
    check_state(state, covariance, rank, shrinkage)
    near = dense.at_features(batch, outputs, resizing)
    state = updated(state, outputs, near, decay, axis_name, part)
    options: dict[str, Any] = {"shrinkage": shrinkage, "axis_name": axis_name}
    spread = 0.5 * strength * semantic.differences(state, kernel, near.label, **options)
    return dense.losses(outputs.logits, batch.label, near.label, spread, resizing), state
