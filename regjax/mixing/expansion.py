"""What Noisy Feature Mixup adds to a loss when it is weak: its expansion to second order, by term.

In a layer k of an example's network, `h` is the layer's output and `g(h)` the logits that follow
from it; `h'`, `y'` are the partner's, `D = h' - h`, `d = y' - y`. With a share `t = 1 - lambda` of
the partner, NFM's loss is that of

    h~ = (1 + s_mult U) * (h + t D) + s_add Z = h + v + O(2),    v = t D + s_mult U * h + s_add Z,
    y~ = y + t d,

`O(2)` being `t s_mult U * D`. Cross entropy `l(h, y) = logsumexp g(h) - y.g(h)` is linear in y.
With `p = softmax g(h)`, `J` the Jacobian of g, `H = diag(p) - p p'` and `g''[v, v]` the second
derivative of the logits along v,

    l(h~, y~) = l + (p - y).J v - t d.log p                                             first order
              + (p - y).J O(2) + (J v)' H (J v) / 2 + (p - y).g''[v, v] / 2 - t d.J v   second
              + third order.

Take the mean over `U ~ Uniform(-1, 1)` and `Z ~ N(0, 1)`, independent, of mean 0 and variance 1/3
and 1: `O(2)` and all that is odd in U or Z drop out, and what remains is

    L_NFM = L + t R1 + t^2 R2 + s_add^2 R_add + s_mult^2 R_mult + third order,

    R1     = mean (p - y).J D - d.log p
    R2     = mean (J D)' H (J D) / 2  +  (p - y).g''[D, D] / 2  -  d.J D
    R_add  = mean tr(J' H J) / 2      +  sum_c (p - y)_c tr g_c'' / 2
    R_mult = mean sum_j h_j^2 ((J' H J)_jj + sum_c (p - y)_c (g_c'')_jj) / 6

the mean being over the examples and their partners. Terms with `H` are of the Jacobian, and never
negative; those with `p - y` are of the Hessians, and vanish as the network learns its labels.
Without mixing what is left out is of fourth order, since odd orders drop out. Of a random lambda,
`t` and `t^2` stand for their means. The theorem is that of "Noisy Feature Mixup" (Lim et al., 2022,
theorem 1), the derivation is for this library's stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_keys, labeled, weighted_mean
from regjax.core.checks import check_batch, check_count, check_logits, check_one_label
from regjax.core.forward import Forward
from regjax.core.stages import Number
from regjax.core.taps import tapped
from regjax.losses.cross_entropy import counted, log_probabilities

Function = Callable[[jax.Array], jax.Array]
Terms = tuple[jax.Array, ...]


class NoisyFeatureMixupTerms(NamedTuple):
    """The means of the expansion's terms, scalars in nats; of strengths 1, `at` applies them.

    Attributes:
      loss: the loss without mixing and noise.
      mixing_first: R1, the mixing's term of first order.
      mixing_jacobian: R2's term with H.
      mixing_hessian: R2's term with g''.
      mixing_label: R2's term with the labels' difference, `- d.J D`.
      add_jacobian: R_add's term with H.
      add_hessian: R_add's term with the traces of g''.
      multiply_jacobian: R_mult's term with H.
      multiply_hessian: R_mult's term with g''.
    """

    loss: jax.Array
    mixing_first: jax.Array
    mixing_jacobian: jax.Array
    mixing_hessian: jax.Array
    mixing_label: jax.Array
    add_jacobian: jax.Array
    add_hessian: jax.Array
    multiply_jacobian: jax.Array
    multiply_hessian: jax.Array

    def at(self, *, mixing: Number, add: Number, multiply: Number) -> NoisyFeatureMixupTerms:
        """The terms at these strengths, which sum to the expanded loss.

        Args:
          mixing: the share t = 1 - lambda of the partner.
          add: s_add, in units of the layer's output.
          multiply: s_mult.
        """
        orders = (1.0, mixing, *[mixing**2] * 3, *[add**2] * 2, *[multiply**2] * 2)
        return NoisyFeatureMixupTerms(*(s * term for s, term in zip(orders, self, strict=True)))


def noisy_feature_mixup_expansion(
    forward: Forward,
    batch: Batch,
    layer: str,
    *,
    partner: jax.Array | None = None,
    probes: int | None = None,
    key: jax.Array | None = None,
) -> NoisyFeatureMixupTerms:
    """The terms of Noisy Feature Mixup's cross entropy to second order in its strengths.

    `L_NFM = L + t R1 + t^2 R2 + s_add^2 R_add + s_mult^2 R_mult`; the terms are written out in the
    module's docstring. See "Noisy Feature Mixup" (Lim et al., 2022), theorem 1. Examples must be
    independent: with BatchNorm, give `forward.frozen()`. The network needs second derivatives:
    with ReLUs those that it has, almost everywhere 0, which is not what finite noise sees.

    The exact traces run the network, twice differentiated, once for each of the layer's K numbers
    an example, one after the other; probes estimate them without bias by random signs.

    Args:
      forward: the network.
      batch: examples with soft or hard labels `[B, C]`, whose probabilities sum to 1; a pair counts
        by the product of its weights.
      layer: a name out of `forward.layers`; its output is `[B, ...]`.
      partner: `[B]` integers, each example's partner; None takes the mean over all B^2 pairs.
      probes: how many random signs stand for the traces; None for the exact ones.
      key: drives the probes.

    Returns:
      The terms, for strengths of 1, each the mean over the batch: scalars, nats.

    Raises:
      TypeError: `probes` without `key`, or not a whole number; images or labels are not floating.
      ValueError: the layer is unknown, its output is not `[B, ...]`, the labels or the partners do
        not fit, or fewer than one probe.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.zeros((2, 2)), jnp.eye(2))
      >>> terms = noisy_feature_mixup_expansion(forward, batch, "input")
      >>> print(terms.add_jacobian, terms.add_hessian)  # tr(diag(p) - p p') / 2
      0.25 0.0
    """
    check_batch(batch)
    check_one_label(batch, "noisy_feature_mixup_expansion")
    batch = labeled(batch)
    if probes is not None:
        check_count("probes", probes)
        if key is None:
            raise TypeError("probes are drawn at random: give noisy_feature_mixup_expansion a key.")
    h, after = split_at(forward, batch, layer)
    logits, label = after(h), batch.label
    check_logits(logits, batch)
    log_p = log_probabilities(logits)
    p = jnp.exp(log_p)

    def along(v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Along v the logits' derivative `[B, C]`, and half of both second-order terms, `[B]`."""
        slope, curve = _derivatives(after, h, v)
        variance = jnp.sum(p * slope**2, -1) - jnp.sum(p * slope, -1) ** 2  # slope' H slope
        return slope, variance / 2, jnp.sum((p - label) * curve, -1) / 2

    def mixing(partner: jax.Array) -> Terms:
        slope, jacobian, hessian = along(h[partner] - h)
        difference = label[partner] - label
        first = jnp.sum((p - label) * slope - counted(difference, log_p), -1)
        return first, jacobian, hessian, -jnp.sum(difference * slope, -1)

    def noise(v: jax.Array) -> Terms:
        return (*along(v)[1:], *along(v * h / math.sqrt(3))[1:])

    loss = weighted_mean(-jnp.sum(counted(label, log_p), -1), batch.weight)
    mixed = _over_pairs(mixing, batch, partner)
    noisy = (
        weighted_mean(term, batch.weight) for term in _over_noise(noise, h, batch, probes, key)
    )
    return NoisyFeatureMixupTerms(loss, *mixed, *noisy)


def split_at(forward: Forward, batch: Batch, layer: str) -> tuple[jax.Array, Function]:
    """A network in two: what a layer computes, and what follows from it.

    Args:
      forward: the network.
      batch: the examples.
      layer: a name out of `forward.layers`.

    Returns:
      The layer's output `h [B, ...]`, and the function `h -> logits [B, C]`.

    Raises:
      ValueError: the layer is unknown, or its output is not `[B, ...]`.

    Example:
      >>> import jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x @ params, jnp.eye(2))
      >>> h, after = split_at(forward, rj.Batch(jnp.ones((1, 2)), jnp.ones((1, 2)) / 2), "input")
      >>> print(after(2 * h))
      [[2. 2.]]
    """
    seen: list[jax.Array] = []

    def keep(_: str, h: jax.Array) -> jax.Array:
        seen.append(h)
        return h

    tapped(forward, batch, keep, (layer,))(batch.image)

    def after(h: jax.Array) -> jax.Array:
        return forward.with_tap(lambda *_: h, layers=(layer,))(batch.image).logits

    return seen[0], after


def _derivatives(function: Function, h: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first and the second derivative along v."""

    def slope(h: jax.Array) -> jax.Array:
        return jax.jvp(function, (h,), (v,))[1]

    return jax.jvp(slope, (h,), (v,))


def _over_pairs(
    terms: Callable[[jax.Array], Terms], batch: Batch, partner: jax.Array | None
) -> Terms:
    """The mean of `terms(partner)`, each `[B]`, over the pairs."""
    size = batch.image.shape[0]
    weight = jnp.ones(size) if batch.weight is None else batch.weight

    def sums(partner: jax.Array) -> Terms:
        pairs = weight * weight[partner]
        # Padding may have yielded a NaN, and zero times that is NaN.
        each = (jnp.sum(jnp.where(pairs == 0, 0, pairs * term)) for term in terms(partner))
        return (*each, jnp.sum(pairs))

    if partner is not None:
        if partner.shape != (size,):
            raise ValueError(f"partner must be [B] with B = {size}, got {list(partner.shape)}.")
        *total, pairs = sums(partner)
    else:
        # Each distance between two places in the batch, in turn.
        places = jnp.arange(size)
        each = jax.lax.map(lambda r: sums((places + r) % size), places)
        *total, pairs = (jnp.sum(term) for term in each)
    return tuple(term / jnp.where(pairs == 0, 1, pairs) for term in total)


def _over_noise(
    terms: Callable[[jax.Array], Terms],
    h: jax.Array,
    batch: Batch,
    probes: int | None,
    key: jax.Array | None,
) -> Terms:
    """The sum of `terms(v)`, each `[B]`, over the unit vectors v; or its estimate."""
    shape, size = h.shape[1:], math.prod(h.shape[1:])

    def unit(j: jax.Array) -> jax.Array:
        return jnp.broadcast_to(
            jax.nn.one_hot(j, size, dtype=h.dtype).reshape(shape)[None], h.shape
        )

    def signs(j: jax.Array) -> jax.Array:
        assert key is not None
        keys = example_keys(jax.random.fold_in(key, j), batch)
        return jax.vmap(lambda k: jax.random.rademacher(k, shape, h.dtype))(keys)

    # One after the other: all at once would hold as many copies of what the network computes.
    if probes is None:
        each = jax.lax.map(lambda j: terms(unit(j)), jnp.arange(size))
        return tuple(jnp.sum(term, 0) for term in each)
    each = jax.lax.map(lambda j: terms(signs(j)), jnp.arange(probes))
    return tuple(jnp.mean(term, 0) for term in each)
