"""How strong an operation of a searched policy is: from its magnitude and draws to a `Change`.

The ranges are those of the program deepaugment (Ozmen, 2019), where a magnitude is in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from regjax.augment.changes import Change

Of = Callable[..., jax.Array]  # the value of an operation, or otherwise another

NAMES = (
    "crop",
    "blur",
    "rotate",
    "shear",
    "translate_x",
    "translate_y",
    "flip_x",
    "flip_y",
    "sharpen",
    "emboss",
    "noise",
    "dropout",
    "coarse_dropout",
    "gamma",
    "brighten",
    "invert",
    "hue_saturation",
    "salt_pepper",
)
DRAWS = 5
_CELLS = 4  # the least number of cells along a side
_STEEPEST = 89.0  # a shear by 90 degrees would be infinite


def change(
    code: jax.Array, magnitude: jax.Array, draws: jax.Array, shape: tuple[int, ...]
) -> Change:
    """What an operation of a magnitude does to one image.

    Args:
      code: `[]`, the operation's place in `NAMES`.
      magnitude: `[]` in [0, 1].
      draws: `[DRAWS]`, uniform in [0, 1): all that is drawn once for an image.
      shape: of the image, `[H, W, K]`, K at most 3.

    Returns:
      The change.

    Example:
      >>> import jax.numpy as jnp
      >>> rotate, draws = NAMES.index("rotate"), jnp.full(DRAWS, 0.75)
      >>> print(change(rotate, jnp.array(1.0), draws, (8, 8, 1)).turn.round(3) + 0.0)
      [[ 0. -1.]
       [ 1.  0.]]
    """

    def of(name: str, value: jax.Array | float, otherwise: jax.Array | float = 0.0) -> jax.Array:
        return jnp.where(code == NAMES.index(name), value, otherwise)

    sides = jnp.array(shape[:2], jnp.float32)
    cuts = of("crop", _cuts(magnitude, draws, sides))
    own = draws[4] < of("coarse_dropout", 0.2, of("salt_pepper", 0.0, 0.5))
    added = 40 / 255 * magnitude * (2 * draws[: shape[2]] - 1)
    return Change(
        turn=_turn(of, magnitude, draws, 1 - cuts.sum(0) / sides),
        move=(cuts[0] - cuts[1]) / 2 - _shift(of, magnitude, draws, sides),
        low=of("crop", cuts[0], -1.0),
        high=of("crop", sides - 1 - cuts[1], sides),
        blur=of("blur", 25 * magnitude * draws[0]),
        kernel=_kernel(of, magnitude, draws),
        gamma=of("gamma", 1.75 * magnitude, 1.0),
        colour=of("hue_saturation", 45 / 255 * magnitude * (2 * draws[0] - 1)),
        factor=of("invert", -1.0, 1.0),
        shift=of("invert", 1.0) + of("brighten", jnp.where(own, added, added[:1])),
        noise=of("noise", magnitude * draws[0]),
        cells=_cells(of, magnitude, draws, sides),
        lost=of("dropout", _between(0.01, jnp.maximum(0.011, magnitude), draws[0]))
        + of("coarse_dropout", _between(0.03, 0.15, draws[0]))
        + of("salt_pepper", 0.2),
        salt=of("salt_pepper", 1.0) > 0,
        shared=~own,
    )


def _between(low: jax.Array | float, high: jax.Array | float, draw: jax.Array) -> jax.Array:
    return low + (high - low) * draw


def _cuts(magnitude: jax.Array, draws: jax.Array, sides: jax.Array) -> jax.Array:
    """What is cut off, in whole pixels, `[2, 2]`: before and after, of rows and of columns."""
    cuts = jnp.floor(draws[:4].reshape(2, 2) * (jnp.floor(magnitude * sides) + 1)[None])
    most = jnp.minimum(1, (sides - 1) / jnp.maximum(cuts.sum(0), 1))  # a pixel stays
    return jnp.floor(cuts * most[None])


def _turn(of: Of, magnitude: jax.Array, draws: jax.Array, kept: jax.Array) -> jax.Array:
    sign = (2 * draws[0] - 1) * magnitude
    angle = of("rotate", jnp.pi * sign)
    slant = jnp.tan(of("shear", jnp.deg2rad(jnp.clip(90 * sign, -_STEEPEST, _STEEPEST))))
    down, right = (jnp.where(draws[0] < of(n, magnitude), -1, 1) for n in ("flip_y", "flip_x"))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows, columns = down * kept[0], right * kept[1]
    return jnp.array([[rows * cos, -sin], [sin + slant, columns * cos]])


def _shift(of: Of, magnitude: jax.Array, draws: jax.Array, sides: jax.Array) -> jax.Array:
    pixels = jnp.round((2 * draws[0] - 1) * magnitude * sides)
    return jnp.stack([of("translate_y", pixels[0]), of("translate_x", pixels[1])])


def _kernel(of: Of, magnitude: jax.Array, draws: jax.Array) -> jax.Array:
    light = _between(0.5, 5 * magnitude, draws[1])
    high = 20 * magnitude * draws[1]
    itself = jnp.zeros((3, 3)).at[1, 1].set(1)
    sharp = jnp.full((3, 3), -1.0).at[1, 1].set(8 + light)
    corner = jnp.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    slope = jnp.array([[-1.0, -1, 0], [-1, 0, 1], [0, 1, 1]])
    effect = of("sharpen", sharp, of("emboss", corner + high * slope, itself))
    return itself + draws[0] * (effect - itself)


def _cells(of: Of, magnitude: jax.Array, draws: jax.Array, sides: jax.Array) -> jax.Array:
    """The grid whose cells are lost as wholes; every pixel is one where none is coarse."""
    # The program's logarithm is below 0 for a magnitude below 1/3.
    most = jnp.log10(jnp.maximum(3 * magnitude, 1))
    share = of("coarse_dropout", _between(0.3, most, draws[1]), of("salt_pepper", magnitude, 1.0))
    return jnp.clip(jnp.floor(share * sides), jnp.minimum(_CELLS, sides), sides)
