"""Classical augmentation: one affine map of each image, and flips along both axes."""

from __future__ import annotations

import numbers
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from regjax.augment.regions import has_dense_labels
from regjax.core.batch import Batch, example_keys
from regjax.core.forward import Forward
from regjax.core.sampling import sampled
from regjax.core.stages import Number, Range, Share, wrapper

Fill = tuple[float, ...] | Literal["nearest"]
# A place may be off by rounding, by which no pixel of the border is from outside.
ROUNDING = 1e-3


@wrapper
def affine(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    rotation: Annotated[Number, Range(0, 180)] = 15.0,
    shift: Share = 0.1,
    shear: Annotated[Number, Range(0, 90)] = 0.0,
    zoom: Share = 0.0,
    horizontal: Share = 0.5,
    vertical: Share = 0.5,
    fill: Fill = "nearest",
) -> tuple[Forward, Batch]:
    """Images rotated, shifted, sheared and zoomed at random by one affine map, then mirrored.

    The pixel at `(row, column)`, both counted from the centre, is taken bilinearly from

        R(angle) (T + S(slant) Z (row, column))

    where R rotates, T shifts, `S = [[1, -sin slant], [0, cos slant]]` and Z is diagonal. All are
    uniform: the angle and the slant in `-rotation..rotation` and `-shear..shear`, the shifts in
    `-shift..shift` of height and width, the factors of Z in `1 - zoom..1 + zoom`. These are the
    conventions of Keras's ImageDataGenerator, and the defaults those of the "classical"
    augmentation of "Signed Input Regularization" (Asgari Taghanaki et al., 2019), which names
    rotations and both flips, but no numbers. Each example draws by `batch.index`. Dense labels move
    along, blended as pixels are, and positions from outside have none.

    Helps on natural images, with `vertical=0` where up is up. Costs four gathers.

    Args:
      loss: the loss to wrap; its images are `[B, H, W, K]` (positional).
      rotation: the largest angle, in degrees.
      shift: the largest shift, as a share of height and width.
      shear: the largest slant, in degrees.
      zoom: the largest change of size, as a share.
      horizontal: the chance of an image to be mirrored left to right.
      vertical: the chance of an image to be mirrored top to bottom.
      fill: what comes in from outside: "nearest" for the nearest pixel, or one number for all
        channels or one for each. On normalised images black is `-mean / std`.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, K]`, `fill` is neither "nearest" nor
        a tuple that fits K, or dense labels are not `[B, H, W, C]`.

    Example:
      >>> import regjax as rj
      >>> rj.affine(rj.cross_entropy(), rotation=30, vertical=0)
      cross_entropy | affine(rotation=30.0, vertical=0.0)
    """
    _check(batch, fill)
    dense = has_dense_labels(batch, "affine")
    degrees, size = jnp.pi / 180, jnp.asarray(batch.image.shape[1:3], jnp.float32)

    def moved(key: jax.Array, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = jax.random.uniform(key, (8,), jnp.float32, -1, 1)
        angle, slant = rotation * degrees * drawn[0], shear * degrees * drawn[1]
        matrix = placed(angle, shift * size * drawn[2:4], slant, 1 + zoom * drawn[4:6])
        mirrored = drawn[6:] < 2 * jnp.stack([jnp.asarray(vertical), jnp.asarray(horizontal)]) - 1

        def changed(array: jax.Array, fill: Fill) -> jax.Array:
            array = warped(array, matrix, fill)
            for axis in (0, 1):
                array = jnp.where(mirrored[axis], jnp.flip(array, axis), array)
            return array

        return changed(image, fill), changed(label, (0.0,)) if dense else label

    image, label = jax.vmap(moved)(example_keys(key, batch), batch.image, batch.label)
    return forward, batch.replace(image=image, label=label)


def placed(angle: jax.Array, shift: jax.Array, slant: jax.Array, zoom: jax.Array) -> jax.Array:
    """The affine map `R (T + S Z x)` from a pixel to where it comes from, about the centre.

    Args:
      angle: `[]`, in radians.
      shift: `[2]`, down and right, in pixels.
      slant: `[]`, in radians.
      zoom: `[2]`, factors along rows and columns; above 1, the image becomes smaller.

    Returns:
      `[2, 3]`: a matrix, and what is added in its last column.

    Example:
      >>> import jax.numpy as jnp
      >>> print(placed(jnp.array(0.0), jnp.ones(2), jnp.array(0.0), jnp.array([2.0, 3.0]))[1])
      [0. 3. 1.]
    """
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    rotate = jnp.stack([cosine, -sine, sine, cosine]).reshape(2, 2)
    shear = jnp.stack([jnp.ones_like(slant), -jnp.sin(slant), 0 * slant, jnp.cos(slant)])
    inner = jnp.concatenate([shear.reshape(2, 2) * zoom[None], shift[:, None]], 1)
    # A product of matrices would be rounded to few bits on accelerators.
    return jnp.sum(rotate[:, :, None] * inner[None], 1)


def warped(image: jax.Array, matrix: jax.Array, fill: Fill) -> jax.Array:
    """An image whose pixels come, bilinearly, from where an affine map has them.

    Args:
      image: `[H, W, K]`.
      matrix: `[2, 3]`, as `placed` returns it, of places counted from the centre.
      fill: "nearest", or what comes in from outside, one number or K.

    Returns:
      `[H, W, K]`, of the image's type.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.arange(3.0).reshape(1, 3, 1)
      >>> right = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]])
      >>> print(warped(image, right, "nearest").ravel())
      [0.5 1.5 2. ]
    """
    height, width, _ = image.shape
    centre = (height - 1) / 2, (width - 1) / 2
    down = (jnp.arange(height, dtype=jnp.float32) - centre[0])[:, None]
    right = (jnp.arange(width, dtype=jnp.float32) - centre[1])[None, :]
    row, column = (
        middle + (across[0] * down + across[1] * right + across[2])
        for middle, across in zip(centre, matrix, strict=True)
    )
    result = sampled(image, (row, column), "nearest")
    if fill != "nearest":
        known = _within(row, height) & _within(column, width)
        outside = jnp.asarray(fill, jnp.float32)[None, None]
        result = jnp.where(known[..., None], result, outside)
    return result.astype(image.dtype)


def _within(place: jax.Array, length: int) -> jax.Array:
    return (place >= -ROUNDING) & (place <= length - 1 + ROUNDING)


def _check(batch: Batch, fill: Fill) -> None:
    shape = batch.image.shape
    fits = isinstance(fill, tuple) and len(fill) in (1, shape[-1])
    known = fill == "nearest" or (fits and all(isinstance(each, numbers.Real) for each in fill))
    if len(shape) != 4 or not known:
        raise ValueError(
            "affine needs images [B, H, W, K], and as fill 'nearest' or one or K numbers in a "
            f"tuple, but the images are {list(shape)} and fill is {fill!r}."
        )
