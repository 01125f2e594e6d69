"""Mixing of pairs of examples and of their labels in a hidden layer, or the input, drawn at random.

The arguments `per_example` and `axis_name` are those of `images.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch
from regjax.core.draws import noise_of_levels
from regjax.core.forward import Forward
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, wrapper
from regjax.core.taps import tapped
from regjax.mixing.pairing import draw_pairs


@wrapper
def manifold_mixup(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    alpha: AtLeastZero,
    layers: tuple[str, ...],
    per_example: bool = False,
    axis_name: str | None = None,
) -> tuple[Forward, Batch]:
    """Pairs of examples that are mixed in a layer drawn at random, with their labels.

    `h_k <- lambda h_k + (1 - lambda) h'_k`, `y <- lambda y + (1 - lambda) y'` with
    `lambda ~ Beta(alpha, alpha)` and k uniform over `layers`, one for the batch. See "Manifold
    Mixup: Better Representations by Interpolating Hidden States" (Verma et al., 2019), section 2.

    Helps as mixup does, and flattens the classes' representations. Costs 1.00 times the plain step
    in FLOPs, and in time two passes over the layer drawn.

    Args:
      loss: the loss to wrap (positional).
      alpha: 0 switches mixing off; 2 in the paper on CIFAR.
      layers: the eligible layers, names out of `forward.layers`, `"input"` among them.
      per_example: whether every example draws its own lambda; the layer is the batch's.
      axis_name: the axis among whose devices examples are paired, under `pmap` and `shard_map`;
        under `jit`, an axis of the mesh that `jax.set_mesh` set, over which the batch is split,
        spares each device the rows of all.

    Returns:
      A `Loss`.

    Raises:
      TypeError: `layers` is one string.
      ValueError: a layer is unknown, named twice, or its output is not `[B, ...]`.

    Example:
      >>> import regjax as rj
      >>> rj.manifold_mixup(rj.cross_entropy(), alpha=1.0, layers=("input",))
      cross_entropy | manifold_mixup(alpha=1.0, layers=('input',))
    """
    key, to_choose = jax.random.split(key)
    pairing, lam = draw_pairs(key, batch, alpha, per_example, axis_name)

    def change(h: jax.Array) -> jax.Array:
        return pairing.mix(h, lam)

    mixed = _in_one_layer(forward, batch, to_choose, change, layers)
    return mixed, batch.replace(label=pairing.mix(batch.label, lam))


@wrapper
def noisy_feature_mixup(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    alpha: AtLeastZero,
    add: AtLeastZero,
    multiply: AtLeastZero,
    layers: tuple[str, ...],
    random_levels: bool = True,
    per_example: bool = False,
    axis_name: str | None = None,
) -> tuple[Forward, Batch]:
    """Pairs of examples mixed in a layer drawn at random, with noise added and multiplied there.

    1. Draw k uniformly from `layers`. 2. Run the network to layer k. 3. Mix, with
    `lambda ~ Beta(alpha, alpha)`: `h~ = lambda h + (1 - lambda) h'`,
    `y <- lambda y + (1 - lambda) y'`. 4. Noise: `h <- (1 + s_mult U) h~ + s_add Z`, elementwise
    `U ~ Uniform(-1, 1)`, `Z ~ N(0, 1)`. 5. Go on from there; gradients flow through all layers.
    See "Noisy Feature Mixup" (Lim et al., 2022), the poster's steps 1 to 5. k, and by default
    lambda, are one draw for the batch; k is traced, so that one program serves all layers. The
    levels are `s_add = add b1` and `s_mult = multiply b2` with `b1, b2 ~ Beta(2, 5)`, of mean 2/7.

    Helps against white noise, salt and pepper and adversarial noise, and accuracy, more than mixup
    or noise alone; in the paper with alpha 1, add 0.4 and multiply 0.2 on CIFAR, 0.1 and 0.1 on
    ImageNet, and the input and the outputs of all stages but the last as layers. Costs 1.00 times
    the plain step in FLOPs; in time, two random numbers for each element of the layer drawn.

    Args:
      loss: the loss to wrap (positional).
      alpha: 0 switches mixing off, not the noise.
      add: level of the added noise, in units of the layer's output.
      multiply: level of the noise that multiplies.
      layers: the eligible layers, names out of `forward.layers`, `"input"` among them.
      random_levels: whether both levels are multiplied by draws of Beta(2, 5), one each for the
        batch, as in the authors' program.
      per_example: whether every example draws its own lambda; layer and levels are the batch's.
      axis_name: the axis among whose devices examples are paired, under `pmap` and `shard_map`;
        under `jit`, an axis of the mesh that `jax.set_mesh` set, over which the batch is split,
        spares each device the rows of all.

    Returns:
      A `Loss`.

    Raises:
      TypeError: `layers` is one string.
      ValueError: a layer is unknown, named twice, or its output is not `[B, ...]`.

    Example:
      >>> import regjax as rj
      >>> loss = rj.noisy_feature_mixup(
      ...     rj.cross_entropy(), alpha=1.0, add=0.4, multiply=0.2, layers=("input",)
      ... )
      >>> loss
      cross_entropy | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers=('input',))
    """
    key, to_choose, to_noise = jax.random.split(key, 3)
    pairing, lam = draw_pairs(key, batch, alpha, per_example, axis_name)
    noisy = noise_of_levels(to_noise, batch, add, multiply, random_levels)

    def change(h: jax.Array) -> jax.Array:
        return noisy(pairing.mix(wide(h), lam)).astype(h.dtype)

    mixed = _in_one_layer(forward, batch, to_choose, change, layers)
    return mixed, batch.replace(label=pairing.mix(batch.label, lam))


def _in_one_layer(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    change: Callable[[jax.Array], jax.Array],
    layers: tuple[str, ...],
) -> Forward:
    """The network with `change` in one of the layers, drawn uniformly."""
    chosen = jnp.floor(len(layers) * jax.random.uniform(key, dtype=jnp.float32))

    def tap(layer: str, h: jax.Array) -> jax.Array:
        # A branch, so that only the layer drawn pays for random numbers; even for one layer, where
        # XLA, which cannot tell that it is always taken, then computes the noise but once.
        return jax.lax.cond(chosen == layers.index(layer), change, lambda h: h, h)

    return tapped(forward, batch, tap, layers)
