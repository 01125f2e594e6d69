"""AutoAugment and RandAugment: operations drawn for each image."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from regjax.augment.magnitudes import NAMES, RAND, table
from regjax.augment.operations import apply
from regjax.augment.pixels import check, scale
from regjax.augment.policies import policy as sub_policies
from regjax.augment.regions import image_size
from regjax.core.batch import Batch, example_keys
from regjax.core.forward import Forward
from regjax.core.stages import Count, Number, Range, wrapper

RAND_BINS, AUTO_BINS = 31, 10
Row = tuple[jax.Array, jax.Array, jax.Array]  # where in the table: operation, level, sign


class Look(NamedTuple):
    """How a stage, by its name, sees images and which table it takes."""

    stage: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bins: int
    as_in_program: bool = False


@wrapper
def auto_augment(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    policy: Literal["cifar10", "svhn", "imagenet"] = "cifar10",
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    as_in_program: bool = False,
) -> tuple[Forward, Batch]:
    """Images changed by one of 25 pairs of operations, found by search for a data set.

    Each image draws its pair, each operation of a pair is applied with its chance, and its sign is
    drawn where it has one. See "AutoAugment: Learning Augmentation Strategies from Data" (Cubuk et
    al., 2019), Tables 7 to 9. Magnitudes at the levels 0 to 9, nearest pixels and a black fill are
    torchvision's, and so the 17th pair of CIFAR-10, as the paper has it. Each example draws by
    `batch.index`.

    Operations work on the 256 levels of stored pixels, as Pillow's do: images are taken back to
    these by `mean` and `std`, rounded and clipped, and normalised again. A pixel whose level does
    not change stays as it is. Derivatives by the images end here. In an expression, augmentation is
    applied from the right to the left: `... | cutout | auto_augment | random_flip | random_crop`.

    Helps on the natural images that a policy was found on, and on their like. Each of the two
    operations costs one gather, one histogram and one table of 256 levels an image, whatever is
    drawn.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, K]`, K 1 or 3 (positional).
      policy: the data set on which it was found.
      mean: of the pixels in [0, 1], by which images have been normalised, one for all channels or
        one for each, as a config's; none where they are in [0, 1].
      std: likewise.
      as_in_program: whether as in the program of ISDA's authors: a grey fill of 128, shears by
        cubics, translations by fractions of a pixel, rotations counterclockwise only, solarize with
        thresholds from 256 on instead of 255, and 0.8 in place of 0.6 in the 17th pair of CIFAR-10.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, an unknown policy, images that are not `[B, H, W, K]` with K 1 or
        3, dense labels, or `mean` or `std` that does not fit K.

    Example:
      >>> import regjax as rj
      >>> rj.auto_augment(rj.cross_entropy(), policy="svhn")
      cross_entropy | auto_augment(policy='svhn')
    """
    steps = sub_policies(policy, as_in_program)
    numbers = [[(NAMES.index(name), *rest) for name, *rest in pair] for pair in steps]
    name, chance, level = np.moveaxis(np.array(numbers, np.float32), -1, 0)

    def drawn(key: jax.Array) -> Row:
        which, applied, sign = jax.random.split(key, 3)
        pair = jax.random.randint(which, (), 0, len(steps), jnp.int32)
        used = jax.random.uniform(applied, (2,), jnp.float32) < jnp.asarray(chance)[pair]
        number = jnp.where(used, jnp.asarray(name, jnp.int32)[pair], NAMES.index("identity"))
        return number, jnp.asarray(level, jnp.int32)[pair], _sign(sign, 2)

    look = Look("auto_augment", mean, std, AUTO_BINS, as_in_program)
    return forward, _augmented(batch, jax.vmap(drawn)(example_keys(key, batch)), look)


@wrapper
def rand_augment(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    operations: Count,
    magnitude: Annotated[Number, Range(0, RAND_BINS - 1)],
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> tuple[Forward, Batch]:
    """Images changed by a few operations in turn, each drawn out of fourteen, all of one magnitude.

    These are `identity`, `shear_x`, `shear_y`, `translate_x`, `translate_y`, `rotate`,
    `brightness`, `color`, `contrast`, `sharpness`, `posterize`, `solarize`, `autocontrast` and
    `equalize`, drawn uniformly and with replacement; what has a sign draws it. See "RandAugment:
    Practical Automated Data Augmentation with a Reduced Search Space" (Cubuk et al., 2020). The
    list is the paper's; magnitudes, nearest pixels and a black fill are torchvision's. All of them
    grow with the magnitude, unlike in programs of which some operations grow weaker. Each example
    draws by `batch.index`.

    Operations work on the 256 levels of stored pixels, as `auto_augment` says.

    Helps on natural images, more the larger the network; on CIFAR-10 3 operations of magnitude 5
    and on ImageNet 2 of 9 are published. Each operation costs one gather, one histogram and one
    table of 256 levels an image, whatever is drawn.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, K]`, K 1 or 3 (positional).
      operations: how many, N in the paper.
      magnitude: M in the paper, 0 to 30; taken to the nearest whole. At 0 autocontrast and equalize
        still act, and solarize on white.
      mean: of the pixels in [0, 1], by which images have been normalised, one for all channels or
        one for each, as a config's; none where they are in [0, 1].
      std: likewise.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, images that are not `[B, H, W, K]` with K 1 or 3, dense labels, or
        `mean` or `std` that does not fit K.

    Example:
      >>> import regjax as rj
      >>> rj.rand_augment(rj.cross_entropy(), operations=2, magnitude=9)
      cross_entropy | rand_augment(operations=2, magnitude=9.0)
    """
    level = jnp.round(jnp.asarray(magnitude, jnp.float32)).astype(jnp.int32)

    def drawn(key: jax.Array) -> Row:
        which, sign = jax.random.split(key)
        number = jax.random.randint(which, (operations,), 0, len(RAND), jnp.int32)
        return number, jnp.broadcast_to(level, (operations,)), _sign(sign, operations)

    look = Look("rand_augment", mean, std, RAND_BINS)
    return forward, _augmented(batch, jax.vmap(drawn)(example_keys(key, batch)), look)


def _sign(key: jax.Array, count: int) -> jax.Array:
    """Where in the table's last axis the operations of an image are."""
    return jax.random.randint(key, (count,), 0, 2, jnp.int32)


def _augmented(batch: Batch, drawn: Row, look: Look) -> Batch:
    """The batch after the operations drawn, `[B, N]` each."""
    check(batch, look.stage, look.mean, look.std)
    image = batch.image.astype(jnp.promote_types(batch.image.dtype, jnp.float32))
    mean, std = scale(look.mean, look.std, image.dtype)
    levels = jnp.round(jnp.clip(image * std + mean, 0, 1) * 255).astype(jnp.int32)
    rows = table(image_size(batch, look.stage), look.bins, look.as_in_program)
    fill = 128 if look.as_in_program else 0

    def change(levels: jax.Array, drawn: Row) -> jax.Array:
        for each in zip(*drawn, strict=True):
            row = jax.tree.map(lambda column, each=each: jnp.asarray(column)[each], rows)
            levels = apply(levels, row, fill, look.as_in_program)
        return levels

    changed = jax.vmap(change)(levels, drawn)
    normalised = (changed.astype(image.dtype) / 255 - mean) / std
    image = jnp.where(changed == levels, jax.lax.stop_gradient(image), normalised)
    return batch.replace(image=image.astype(batch.image.dtype))
