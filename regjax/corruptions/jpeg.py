"""What JPEG loses, in pure JAX: all of libjpeg but the entropy coding, which loses nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from regjax.corruptions.levels import at_severity
from regjax.corruptions.severities import JPEG_QUALITY, Levels

# The standard's example tables (ITU-T T.81, K.1 and K.2), which libjpeg scales by the quality.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = np.full((8, 8), 99)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# To Y, Cb and Cr (rows) from R, G and B, and back, in units of 2^-16 as libjpeg has them.
_TO_YCC = np.array([[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]])
_FROM_YCC = np.array([[0, 91881], [-22554, -46802], [116130, 0]])

# The cosine transform of eight numbers, sqrt(8) 2^13 times the orthonormal one, rounded as in
# libjpeg: what its factored form multiplies each input by, first the four even frequencies, of the
# sums of two inputs, then the odd ones, of the differences.
_EVEN = [
    [8192, 8192, 8192, 8192],
    [10703, 4433, -4433, -10703],
    [8192, -8192, -8192, 8192],
    [4433, -10704, 10704, -4433],
]
_ODD = [
    [11363, 9633, 6437, 2260],
    [9633, -2259, -11362, -6436],
    [6437, -11362, 2261, 9633],
    [2260, -6436, 9633, -11363],
]
_COSINES = np.zeros((8, 8), np.int32)
_COSINES[0::2] = np.concatenate([_EVEN, np.flip(_EVEN, 1)], 1)
_COSINES[1::2] = np.concatenate([_ODD, -np.flip(_ODD, 1)], 1)


def jpeg_compression(
    image: jax.Array, severity: jax.Array, key: jax.Array, levels: Levels = "cifar"
) -> jax.Array:
    """The image after JPEG, compressed at quality 80 to 40 for CIFAR, 25 to 7 for ImageNet.

    Colours to luminance and chrominance, chrominance at half the resolution, cosine transform of
    blocks of 8 x 8, rounding to multiples of the quality's table, and back, in libjpeg's integer
    arithmetic and with its smooth upsampling: the pixels are Pillow's to the bit, but for images
    less than 5 pixels wide. See "Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations" (Hendrycks & Dietterich, 2019).

    Args:
      image: `[H, W, 3]` in [0, 1], rounded to 255ths.
      severity: `[]`, 1 to 5.
      key: not looked at.
      levels: static.

    Returns:
      `[H, W, 3]` in 255ths.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> grey = jnp.full((8, 8, 3), 128 / 255)
      >>> (jpeg_compression(grey, jnp.array(5), jax.random.key(0)) * 255).max().item()
      128.0
    """
    height, width = image.shape[:2]
    stored = jnp.round(image * 255).astype(jnp.int32)
    ycc = jnp.einsum("yc,hwc->yhw", jnp.asarray(_TO_YCC, jnp.int32), stored)
    # Chrominance is rounded down where it is just between two levels.
    down = jnp.array([0, 1, 1]).reshape(3, 1, 1)
    luminance, *chrominance = _shifted(ycc - down, 16) + 128 * down
    fine, coarse = (
        _table(base, JPEG_QUALITY[levels], severity) for base in (_LUMINANCE, _CHROMINANCE)
    )
    y = _coded(_padded(luminance, 8, 8), fine)
    small = (_coded(_halved(plane), coarse) for plane in chrominance)
    size = ((height + 1) // 2, (width + 1) // 2)
    cb, cr = (_doubled(plane[: size[0], : size[1]])[:height, :width] - 128 for plane in small)
    change = jnp.einsum("cy,yhw->hwc", jnp.asarray(_FROM_YCC, jnp.int32), jnp.stack([cb, cr]))
    rgb = y[:height, :width, None] + _shifted(change, 16)
    return jnp.clip(rgb, 0, 255).astype(jnp.float32) / 255


def _table(base: np.ndarray, qualities: tuple[int, ...], severity: jax.Array) -> jax.Array:
    """The quantisation table of a severity, as libjpeg scales it, `[8, 8]`."""
    scales = [5000 // q if q < 50 else 200 - 2 * q for q in qualities]
    tables = [np.clip((base * scale + 50) // 100, 1, 255) for scale in scales]
    return at_severity(tables, severity).astype(jnp.int32)


def _padded(plane: jax.Array, rows: int, columns: int) -> jax.Array:
    """Repeats the last row and column until both sides are multiples of what is given."""
    height, width = plane.shape
    return jnp.pad(plane, ((0, -height % rows), (0, -width % columns)), mode="edge")


def _halved(plane: jax.Array) -> jax.Array:
    """Means of 2 x 2, rounded up and down in turn, padded to whole blocks."""
    plane = _padded(plane, 2, 16)
    height, width = (side // 2 for side in plane.shape)
    total = plane.reshape(height, 2, width, 2).sum((1, 3))
    return _padded((total + 1 + np.arange(width)[None] % 2) >> 2, 8, 8)


def _doubled(plane: jax.Array) -> jax.Array:
    """Twice the size: three parts of the nearest pixel and one of the next, along both sides."""

    def along_rows(plane: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = jnp.pad(plane, ((1, 1), (0, 0)), mode="edge")
        return 3 * plane + wide[:-2], 3 * plane + wide[2:]

    rows = jnp.stack(along_rows(plane), 1).reshape(-1, plane.shape[1])
    left, right = along_rows(rows.T)
    both = jnp.stack([(left + 8) >> 4, (right + 7) >> 4], 1)
    return both.reshape(-1, rows.shape[0]).T


def _coded(plane: jax.Array, table: jax.Array) -> jax.Array:
    """Rounds the cosine transform of each block to multiples of a table, and transforms back."""
    height, width = plane.shape
    blocks = (plane - 128).reshape(height // 8, 8, width // 8, 8)
    wave = _shifted(jnp.einsum("vj,aibj->aibv", _COSINES, blocks), 11)
    wave = _shifted(jnp.einsum("ui,aibv->aubv", _COSINES, wave), 15)  # 8 times the orthonormal one
    table = table[None, :, None]
    rounded = jnp.sign(wave) * ((jnp.abs(wave) + 4 * table) // (8 * table)) * table
    back = _shifted(jnp.einsum("ui,aubv->aibv", _COSINES, rounded), 11)
    back = _shifted(jnp.einsum("vj,aibv->aibj", _COSINES, back), 18)
    return jnp.clip(back.reshape(height, width) + 128, 0, 255)


def _shifted(number: jax.Array, bits: int) -> jax.Array:
    """Divides by a power of two and rounds, halves up."""
    return (number + (1 << (bits - 1))) >> bits
