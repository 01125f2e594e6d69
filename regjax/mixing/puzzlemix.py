"""Puzzle Mix: two images put together so that what is salient in either survives."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import lax

from regjax.core.batch import Batch
from regjax.core.checks import check_one_label
from regjax.core.forward import Forward
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, Count, Number, Range, wrapper
from regjax.losses.cross_entropy import counted, log_probabilities
from regjax.mixing.block_transport import transport_blocks
from regjax.mixing.mask_labels import label_mask, mask_terms, split_blocks
from regjax.mixing.pairing import draw_lambda, pair

Grid = tuple[int, int]
Salient = tuple[jax.Array, jax.Array]  # an image [H, W, K] and its saliency [H, W]
Numbers = tuple[Number, Number, Number, Number]  # beta, gamma, eta, xi


@wrapper
def puzzlemix(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    alpha: AtLeastZero,
    beta: AtLeastZero = 1.2,
    gamma: AtLeastZero = 0.5,
    eta: AtLeastZero = 0.2,
    xi: AtLeastZero = 0.8,
    blocks: int | tuple[int | Grid, ...] = 4,
    tiles: Count = 1,
    labels: Annotated[int, Range(2)] = 3,
    per_example: bool = False,
    axis_name: str | None = None,
) -> tuple[Forward, Batch]:
    """Pairs of images mixed by blocks, such that what is salient in either survives.

    `x = z T1(x1) + (1 - z) T0(x0)`, `y = mean(z) y1 + (1 - mean(z)) y0`, where x1 is the example,
    x0 its partner by a random permutation. The mask `z in {0, 1/M, .., 1}` has one value for each
    of n x n blocks and minimises, with `lambda ~ Beta(alpha, alpha)` and saliencies s of sum 1,

        sum_i -z_i s1_i - (1 - z_i) s0_i - eta / n^2 log Binomial(M z_i; M, lambda)
            + beta / 16n sum_ij [(z_i - z_j)^2 + gamma phi_ij(z_i, z_j)]

    over neighbours i, j; `phi_ij(a, b) = |xa_i - xb_j|` is the step at the border of two blocks, a
    mean over channels, continued from labels 0 and 1 as `c + l_i z_i + l_j z_j + w_ij (z_i -
    z_j)^2`; what then multiplies a square in all is kept from falling below 0. T1 permutes the
    tiles of x1 to maximise `sum_i s1_i z_T(i) - xi ||i - T(i)||^2 / (n - 1)^2`, T0 those of x0 with
    1 - z. See "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup" (Kim, Choo
    and Song, 2020), section 4. The scales (1 / 16n, 1 / n^2), the form of phi between its labels
    and the defaults, for CIFAR, are those of the authors' program. It differs from theirs in
    solving both problems on the device, the first to within a stated gap (`label_mask`), the second
    exactly (`transport_blocks`), in that T is always a permutation, and in that T weighs saliency
    by z, where the program takes all of it wherever z > 0.

    The saliency of a pixel is the norm over its channels of the gradient of the example's cross
    entropy, whatever the base loss, by a pass with BatchNorm's running averages and no dropout, as
    in the authors' program. Nothing is differentiated through it, nor through mask and transport.

    When it helps: where labels follow from parts of the image that mixup blends away and CutMix
    cuts away, mostly with long training. Cost: one more forward pass and a backward pass to the
    image, 1.7x the FLOPs of a plain step, and the solvers: for 128 images on two CPU cores 3 ms at
    4 x 4 blocks, 20 to 30 at 8 x 8, 110 to 500 at 16 x 16, by how many tiles gain from a move.

    Args:
      loss: the loss to wrap (positional).
      alpha: of the Beta distribution from which the share of the example itself is drawn; 0
        switches everything off.
      beta: smoothness of the mask.
      gamma: how much of that follows the images, which it takes to range from 0 to 1; for images
        divided by a deviation, multiply it by that.
      eta: how closely the mask's mean follows lambda.
      xi: the cost of moving tiles.
      blocks: n, with n x n blocks to an image, or a tuple of choices, of which each step draws one:
        (2, 4, 8, 16) in the authors' program. A choice may be a pair, (rows, columns).
      tiles: the transport moves tiles of a grid of at least so many a side, where that is finer
        than the blocks; 8 in the authors' program on CIFAR.
      labels: M + 1, how many values a block of the mask can take.
      per_example: whether every example draws its own lambda, or one serves the batch.
      axis_name: under `pmap` and `shard_map`, the axis among whose devices examples are paired;
        None pairs those of each device.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, labels that are not `[B, C]`, images that are not `[B, H, W, K]`,
        a grid that does not divide them, tiles that do not divide blocks, or fewer than two
        labels.

    Example:
      >>> import regjax as rj
      >>> rj.puzzlemix(rj.cross_entropy(), alpha=1.0, blocks=(2, 4))
      cross_entropy | puzzlemix(alpha=1.0, blocks=(2, 4))
    """
    check_one_label(batch, "puzzlemix")
    grids = _grids(blocks, tiles, labels, batch.image.shape)
    pair_key, lambda_key, grid_key = jax.random.split(key, 3)
    pairing = pair(pair_key, batch, axis_name)
    lam = draw_lambda(lambda_key, batch, alpha, per_example)
    lam = jnp.broadcast_to(lam, batch.label.shape[:1])
    own = wide(batch.image), input_saliency(forward, batch)
    partner = pairing.of(own[0]), pairing.of(own[1])
    branches = [
        functools.partial(_puzzles, blocks=grid, tiles=tiling, labels=labels)
        for grid, tiling in grids
    ]
    draw = jax.random.randint(grid_key, (), 0, len(branches))
    image, share = lax.switch(draw, branches, own, partner, lam, (beta, gamma, eta, xi))
    label = pairing.mix(batch.label, share)
    return forward, batch.replace(image=image.astype(batch.image.dtype), label=label)


def input_saliency(forward: Forward, batch: Batch) -> jax.Array:
    """How much the cross entropy of each example depends on each of its pixels.

    `s = ||d loss / d x||_2`, over channels, with BatchNorm's running averages and no dropout, and
    divided by the largest entry of the gradient, so that nothing underflows where the network is
    sure. See "Puzzle Mix" (Kim, Choo and Song, 2020), section 4.

    Args:
      forward: the network.
      batch: the examples; images are `[B, H, W, K]`.

    Returns:
      `[B, H, W]`, float32 at least; all 0 where the gradient is. A constant to differentiation.

    Example:
      >>> import regjax as rj
      >>> forward = rj.from_function(lambda kernel, x: x.reshape(1, 2) @ kernel, jnp.eye(2))
      >>> batch = rj.Batch(jnp.ones((1, 1, 2, 1)), jnp.array([[1.0, 0.0]]))
      >>> print(input_saliency(forward, batch))
      [[[1. 1.]]]
    """
    if jax.tree.leaves(forward.state):
        forward = forward.frozen()
    # Constants from the start, so that no outer derivative is taken of this one.
    forward = forward.replace(params=lax.stop_gradient(forward.params))

    def summed(image: jax.Array) -> jax.Array:
        return -jnp.sum(counted(batch.label, log_probabilities(forward(image).logits)))

    gradient = wide(lax.stop_gradient(jax.grad(summed)(lax.stop_gradient(batch.image))))
    peak = jnp.max(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
    return jnp.sqrt(jnp.sum((gradient / jnp.where(peak == 0, 1, peak)) ** 2, axis=-1))


# Compiled where the loss is not, as its loops would be anew in every call.
@functools.partial(jax.jit, static_argnames=("blocks", "tiles", "labels"))
def _puzzles(
    own: Salient, partner: Salient, lam: jax.Array, numbers: Numbers, **grid: Any
) -> tuple[jax.Array, jax.Array]:
    """The mixed images, `[B, H, W, K]`, and the own share of each, `[B]`."""
    return jax.vmap(lambda *each: _puzzle(*each, numbers=numbers, **grid))(own, partner, lam)


def _puzzle(
    own: Salient,
    partner: Salient,
    lam: jax.Array,
    *,
    numbers: Numbers,
    blocks: Grid,
    tiles: Grid,
    labels: int,
) -> tuple[jax.Array, jax.Array]:
    beta, gamma, eta, xi = numbers
    images, saliencies = zip(partner, own, strict=True)
    terms = mask_terms(
        lax.stop_gradient(jnp.stack(images)),
        jnp.stack([_shares(saliency, blocks) for saliency in saliencies]),
        lam,
        (beta, gamma, eta),
        labels,
    )
    label = label_mask(*lax.stop_gradient(terms))
    mask = _repeat(label / (labels - 1), tiles).astype(images[0].dtype)
    mixed = jnp.zeros_like(images[0])
    for image, saliency, kept in zip(images, saliencies, (1 - mask, mask), strict=True):
        source = transport_blocks(_shares(saliency, tiles), kept, lax.stop_gradient(xi))
        mixed += _repeat(kept, image.shape)[..., None] * _permute(image, source, tiles)
    # Without a draw nothing may change, whatever the mask and the transport come to.
    off = lam == 1
    share = jnp.sum(label) / (label.size * (labels - 1))
    return jnp.where(off, images[1], mixed), jnp.where(off, 1, share)


def _shares(saliency: jax.Array, grid: Grid) -> jax.Array:
    """What each block of the grid has of the image's saliency; the same where there is none."""
    sums = jnp.sum(split_blocks(saliency, grid), axis=(1, 3))
    whole = jnp.sum(sums)
    return jnp.where(whole == 0, 1 / sums.size, sums / jnp.where(whole == 0, 1, whole))


def _repeat(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A grid's values on a finer grid."""
    for axis in (0, 1):
        values = jnp.repeat(values, shape[axis] // values.shape[axis], axis)
    return values


def _permute(image: jax.Array, source: jax.Array, grid: Grid) -> jax.Array:
    """The image, with the tile `source[i]` in place i."""
    split = split_blocks(image, grid).swapaxes(1, 2)
    tiles = split.reshape(-1, *split.shape[2:])[source]
    return tiles.reshape(split.shape).swapaxes(1, 2).reshape(image.shape)


def _grids(
    blocks: int | tuple[int | Grid, ...], tiles: int, labels: int, shape: tuple[int, ...]
) -> list[tuple[Grid, Grid]]:
    """The grids of blocks to choose from, each with that of the transport."""
    if len(shape) != 4:
        raise ValueError(f"puzzlemix needs images [B, H, W, K], but they are {list(shape)}.")
    if not isinstance(labels, int) or labels < 2:
        raise ValueError(f"puzzlemix's labels must be a whole number >= 2, but it is {labels!r}.")
    choices = blocks if isinstance(blocks, tuple) else (blocks,)
    pairs = [(choice, choice) if isinstance(choice, int) else choice for choice in choices]
    if not pairs or not all(map(_is_grid, pairs)):
        raise ValueError(
            f"puzzlemix's blocks must be n, for n x n blocks, or a tuple of choices, each n or "
            f"(rows, columns), but it is {blocks!r}."
        )
    if not _is_count(tiles):
        raise ValueError(f"puzzlemix's tiles must be a whole number >= 1, but it is {tiles!r}.")
    found = []
    for rows, columns in pairs:
        tiling = max(rows, tiles), max(columns, tiles)
        if any(side % n for side, n in zip(shape[1:3], tiling, strict=True)):
            raise ValueError(
                f"puzzlemix cuts images into {tiling[0]} x {tiling[1]} equal parts, but they are "
                f"{shape[1]} x {shape[2]}: choose blocks (and tiles) that divide both sides."
            )
        if tiling[0] % rows or tiling[1] % columns:
            raise ValueError(
                f"puzzlemix's blocks must be made of whole tiles, but {rows} x {columns} blocks "
                f"do not divide {tiling[0]} x {tiling[1]} tiles."
            )
        found.append(((rows, columns), tiling))
    return found


def _is_grid(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_count, value))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
