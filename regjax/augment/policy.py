"""Searched policies: pairs of operations with magnitudes, of which every image draws one."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from regjax.augment import changes, strengths
from regjax.augment.pixels import check, scale
from regjax.augment.strengths import NAMES
from regjax.core.batch import Batch, example_keys
from regjax.core.draws import uniform
from regjax.core.forward import Forward
from regjax.core.loss import Loss
from regjax.core.stages import REGISTRY, Number, Share, Unbounded, wrapper

Pair = tuple[str, float, str, float]


@wrapper
def policy(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    sub: tuple[Pair, ...],
    rate: Share = 1.0,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> tuple[Forward, Batch]:
    """Images changed by one of a few pairs of operations, whose magnitudes a search may find.

    Each image draws its pair, uniformly, and goes through both of its operations; pixels are
    clipped to [0, 1] after each. For a magnitude m, and u uniform in [0, 1) for each image:

    - `crop`: off each side so many whole pixels, uniform up to m of its length; what is left fills
      the image again. `translate_x`, `translate_y`: uniform up to m of the side, whole pixels.
      `rotate`, `shear` (along rows): uniform up to 180 m, 90 m degrees, both ways, at most 89 for
      a shear. `flip_x` (left to right), `flip_y`: with chance m. Black comes in from outside.
    - `blur`: Gaussian, of a standard deviation of 25 m u pixels. `sharpen`, `emboss`: u of the
      filtered image and 1 - u of itself, the lightness between 0.5 and 5 m, the strength up to 20
      m.
    - `gamma`: to the power 1.75 m, white for m = 0. `brighten`: up to 40 m / 255 added or taken
      away, by channel half the time. `invert`: whatever m. `hue_saturation`: up to 45 m / 255
      added to both, the hue in turns; what is grey stays.
    - `noise`: normal, of a standard deviation of m u; `dropout`: each pixel black, with a chance
      between 0.01 and m; both by channel half the time. `coarse_dropout`: cells of a grid, with a
      chance of 0.03 to 0.15, by channel a fifth of the time, the grid's share of the image's side
      between 0.3 and log10(3 m) (0 where that is less). `salt_pepper`: a fifth of the cells of a
      grid of m of the side, light and dark. A grid has 4 cells a side at least.

    The operations and ranges are those of the program deepaugment (Ozmen, 2019), which "Signed
    Input Regularization" (Asgari Taghanaki et al., 2019), 3.1, trains with; its fog and clouds are
    left out. `("rotate", 0.0)` leaves an image as it is. Each example draws by `batch.index`.
    Derivatives by the images end here.

    Helps as far as it was searched for on such images: `python -m experiments.search`. Costs, for
    each of the two operations, four gathers, two products with a matrix of the side's length and a
    random number for each pixel, whatever is drawn.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, K]`, K 1 or 3 (positional).
      sub: the pairs, such as `(("rotate", 0.1, "flip_x", 0.5), ("noise", 0.2, "crop", 0.1))`: a
        name, its magnitude in [0, 1], and the same of the second operation.
      rate: the chance of an image to be changed.
      mean: of the pixels in [0, 1], by which images have been normalised, one for all channels or
        one for each, as a config's; none where they are in [0, 1].
      std: likewise.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, pairs that are not of this form, images that are not `[B, H, W, K]`
        with K 1 or 3, dense labels, or `mean` or `std` that does not fit K.

    Example:
      >>> import regjax as rj
      >>> rj.policy(rj.cross_entropy(), sub=(("rotate", 0.1, "noise", 0.2),))
      cross_entropy | policy(sub=(('rotate', 0.1, 'noise', 0.2),))
    """
    codes, magnitudes = map(jnp.asarray, arrays(sub))
    return forward, _changed(batch, key, codes, magnitudes, rate, mean, std)


def arrays(sub: tuple[Pair, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The operations of a policy, places in `NAMES`, and their magnitudes, float32 `[S, 2]` each.

    Raises:
      ValueError: it is no policy.

    Example:
      >>> arrays((("crop", 0.1, "rotate", 0.2),))[0]
      array([[0., 2.]], dtype=float32)
    """
    for pair in sub if isinstance(sub, tuple) and sub else (sub,):
        _check_pair(pair)
    codes = [[NAMES.index(first), NAMES.index(second)] for first, _, second, _ in sub]
    magnitudes = [[one, other] for _, one, _, other in sub]
    return np.array(codes, np.float32), np.array(magnitudes, np.float32)


def _check_pair(pair: object) -> None:
    if not isinstance(pair, tuple) or len(pair) != 4:
        raise ValueError(
            "policy's sub must be pairs of operations, such as (('rotate', 0.1, 'noise', 0.2),), "
            f"but there is {pair!r}."
        )
    for name, magnitude in (pair[:2], pair[2:]):
        if name not in NAMES:
            raise ValueError(
                f"policy knows no operation {name!r}; its operations are: {', '.join(NAMES)}."
            )
        is_number = isinstance(magnitude, numbers.Real) and not isinstance(magnitude, bool)
        if not is_number or not 0 <= magnitude <= 1:
            raise ValueError(
                f"policy's magnitudes must be between 0 and 1, but {name}'s is {magnitude!r}."
            )


def with_arrays(loss: Loss) -> Loss:
    """The same loss, in which policies are arrays, so that one compiled program serves them all.

    What it computes is the same, bit by bit; policies of as many pairs are of one structure, and
    `jax.vmap` runs over them. It does not print as its expression.

    Example:
      >>> import jax, regjax as rj
      >>> loss = rj.policy(rj.cross_entropy(), sub=(("rotate", 0.1, "noise", 0.2),))
      >>> [number.shape for number in jax.tree.leaves(with_arrays(loss))[:2]]
      [(1, 2), (1, 2)]
    """

    def changed(stage: Any) -> Any:
        if stage.definition is not REGISTRY["policy"]:
            return stage
        rest = {name: value for name, value in stage.arguments.items() if name != "sub"}
        codes, magnitudes = arrays(stage.arguments["sub"])
        return _OF_ARRAYS.bind({"codes": codes, "magnitudes": magnitudes, **rest})

    return Loss(tuple(map(changed, loss.stages)))


def _of_arrays(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    codes: Unbounded,
    magnitudes: Share,
    rate: Share,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[Forward, Batch]:
    return forward, _changed(batch, key, codes, magnitudes, rate, mean, std)


# Of the same name, and so with the same draws, but not found by it.
_OF_ARRAYS = dataclasses.replace(
    REGISTRY["policy"],
    function=_of_arrays,
    arguments={
        name: parameter
        for name, parameter in inspect.signature(_of_arrays, eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    },
)


def _changed(
    batch: Batch,
    key: jax.Array,
    codes: Number,
    magnitudes: Number,
    rate: Number,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Batch:
    check(batch, "policy", mean, std)
    image = jax.lax.stop_gradient(batch.image)
    image = image.astype(jnp.promote_types(image.dtype, jnp.float32))
    by, of = scale(mean, std, image.dtype)
    before = jnp.clip(image * of + by, 0, 1)
    keys = example_keys(key, batch)
    pixels = _through_a_pair(before, keys, jnp.asarray(codes), jnp.asarray(magnitudes))
    used = jax.vmap(_one)(_folded(keys, 0)) < rate
    stays = ~used[:, None, None, None] | (pixels == before)
    image = jnp.where(stays, image, (pixels - by) / of)
    return batch.replace(image=image.astype(batch.image.dtype))


def _through_a_pair(
    pixels: jax.Array, keys: jax.Array, codes: jax.Array, magnitudes: jax.Array
) -> jax.Array:
    size, shape = len(codes), pixels.shape[1:]
    which = jnp.floor(size * jax.vmap(_one)(_folded(keys, 1))).astype(jnp.int32)

    def change(code: jax.Array, magnitude: jax.Array, key: jax.Array) -> changes.Change:
        draws = jax.random.uniform(key, (strengths.DRAWS,), jnp.float32)
        return strengths.change(code, magnitude, draws, shape)

    def step(pixels: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        row = jax.vmap(change)(codes[which, i], magnitudes[which, i], _folded(keys, 2 + i))
        field = uniform(_folded(keys, 4 + i), (*shape[:2], shape[2] + 1)).astype(pixels.dtype)
        return jax.vmap(changes.apply)(pixels, row, field).astype(pixels.dtype), None

    return jax.lax.scan(step, pixels, jnp.arange(2))[0]  # half of what is to compile


def _one(key: jax.Array) -> jax.Array:
    return jax.random.uniform(key, (), jnp.float32)


def _folded(keys: jax.Array, number: int | jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
