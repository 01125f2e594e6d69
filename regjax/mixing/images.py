"""Mixing of pairs of images and of their labels; `features.py` does it in hidden layers.

All stages pair the examples by a random permutation and share the arguments `per_example`, whether
every example has its own lambda or one serves the batch, as in the papers, and `axis_name`: under
`pmap` and `shard_map`, where each device sees a part of the batch, the axis among whose devices
examples are paired, with one key on all of them; None pairs those of each device.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.augment.regions import box, has_dense_labels, image_size, spread
from regjax.core.batch import Batch, example_keys
from regjax.core.draws import noise_of_levels
from regjax.core.forward import Forward
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, wrapper
from regjax.mixing.pairing import draw_pairs


@wrapper
def mixup(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    alpha: AtLeastZero,
    per_example: bool = False,
    axis_name: str | None = None,
) -> tuple[Forward, Batch]:
    """Convex combinations of pairs of images and of their labels, to train on.

    `x <- lambda x + (1 - lambda) x'`, `y <- lambda y + (1 - lambda) y'` with
    `lambda ~ Beta(alpha, alpha)` and the partner `(x', y')` by a random permutation of the batch.
    Dense labels mix position by position; where one of two has none, the other counts by its share.
    See "mixup: Beyond Empirical Risk Minimization" (Zhang et al., 2018), section 2.

    Helps accuracy, calibration and robustness of large networks that fit the training data; strong
    mixing underfits small ones. Costs 1.00 times the plain step.

    Args:
      loss: the loss to wrap (positional).
      alpha: 0 switches mixing off, 1 draws lambda uniformly; 0.1 to 0.4 on ImageNet in the paper.
      per_example: whether every example draws its own lambda.
      axis_name: the axis among whose devices examples are paired, under `pmap` and `shard_map`;
        under `jit`, an axis of the mesh that `jax.set_mesh` set, over which the batch is split,
        spares each device the rows of all.

    Returns:
      A `Loss`.

    Example:
      >>> import regjax as rj
      >>> rj.mixup(rj.cross_entropy(), alpha=1.0)
      cross_entropy | mixup(alpha=1.0)
    """
    pairing, lam = draw_pairs(key, batch, alpha, per_example, axis_name)
    image, label = (pairing.mix(each, lam) for each in (batch.image, batch.label))
    return forward, batch.replace(image=image, label=label)


@wrapper
def cutmix(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    alpha: AtLeastZero,
    per_example: bool = False,
    axis_name: str | None = None,
) -> tuple[Forward, Batch]:
    """Images with a box of another image in each, and labels mixed by area.

    The box has its centre at a uniformly drawn pixel and the sides `floor(H sqrt(1 - lambda))` and
    `floor(W sqrt(1 - lambda))`, `lambda ~ Beta(alpha, alpha)`, and is clipped at the border. The
    label's weight is then exactly the share of pixels that the image keeps; dense labels, those to
    ignore too, are pasted with their pixels. See "CutMix:
    Regularization Strategy to Train Strong Classifiers with Localizable Features" (Yun et al.,
    2019), section 3.1; its program rounds odd sides down to even ones.

    Helps accuracy and localisation on natural images; hurts robustness against white noise (Noisy
    Feature Mixup, Table 1). Costs 1.00 times the plain step.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, ...]` (positional).
      alpha: 0 switches mixing off, 1 draws lambda uniformly, as in the paper.
      per_example: whether every example draws its own lambda and centre.
      axis_name: the axis among whose devices examples are paired, under `pmap` and `shard_map`;
        under `jit`, an axis of the mesh that `jax.set_mesh` set, over which the batch is split,
        spares each device the rows of all.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, ...]`, or dense labels are not
        `[B, H, W, C]`.

    Example:
      >>> import regjax as rj
      >>> rj.cutmix(rj.cross_entropy(), alpha=1.0)
      cross_entropy | cutmix(alpha=1.0)
    """
    size = image_size(batch, "cutmix")
    dense = has_dense_labels(batch, "cutmix")
    key, to_box = jax.random.split(key)
    pairing, lam = draw_pairs(key, batch, alpha, per_example, axis_name)

    def draw(key: jax.Array, lam: jax.Array) -> jax.Array:
        height, width = (jnp.floor(length * jnp.sqrt(1 - lam)) for length in size)
        return box(key, size, (height, width))

    several = jax.vmap(draw)
    inside = several(example_keys(to_box, batch), lam) if per_example else draw(to_box, lam)
    # By what is lost, since rounding must not keep it from being 1 where nothing is.
    kept = jnp.maximum(1 - jnp.sum(inside, (-2, -1)) / (size[0] * size[1]), 0)

    def pasted(pixels: jax.Array) -> jax.Array:
        return jnp.where(spread(inside, pixels), pairing.of(pixels), pixels)

    image = pasted(batch.image)
    label = pasted(batch.label) if dense else pairing.mix(batch.label, kept)
    return forward, batch.replace(image=image, label=label)


@wrapper
def noisy_mixup(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    alpha: AtLeastZero,
    add: AtLeastZero,
    multiply: AtLeastZero,
    random_levels: bool = True,
    per_example: bool = False,
    axis_name: str | None = None,
) -> tuple[Forward, Batch]:
    """Mixup, and noise on the mixed images: Noisy Feature Mixup in the input only.

    `x~ = lambda x + (1 - lambda) x'`, `x <- (1 + s_mult U) x~ + s_add Z`,
    `y <- lambda y + (1 - lambda) y'`; the symbols are those of `noisy_feature_mixup`. It is the
    baseline of its Tables 1 and 2, there with add 0.2 and multiply 0.1.

    Helps against noise at test time, at a cost in accuracy without it. Costs 1.00 times the plain
    step in FLOPs.

    Args:
      loss: the loss to wrap (positional).
      alpha: 0 switches mixing off, not the noise.
      add: level of the added noise, in units of the image.
      multiply: level of the noise that multiplies.
      random_levels: whether both levels are multiplied by draws of Beta(2, 5), one each for the
        batch, as in the authors' program.
      per_example: whether every example draws its own lambda.
      axis_name: the axis among whose devices examples are paired, under `pmap` and `shard_map`;
        under `jit`, an axis of the mesh that `jax.set_mesh` set, over which the batch is split,
        spares each device the rows of all.

    Returns:
      A `Loss`.

    Example:
      >>> import regjax as rj
      >>> rj.noisy_mixup(rj.cross_entropy(), alpha=1.0, add=0.2, multiply=0.1)
      cross_entropy | noisy_mixup(alpha=1.0, add=0.2, multiply=0.1)
    """
    key, to_noise = jax.random.split(key)
    pairing, lam = draw_pairs(key, batch, alpha, per_example, axis_name)
    noisy = noise_of_levels(to_noise, batch, add, multiply, random_levels)
    image = noisy(pairing.mix(wide(batch.image), lam)).astype(batch.image.dtype)
    return forward, batch.replace(image=image, label=pairing.mix(batch.label, lam))
