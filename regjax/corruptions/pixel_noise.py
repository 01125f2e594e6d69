"""Noise on single pixels at test time, at levels that may be traced.

One compiled program serves all levels; every example draws by a key of its own, such as
`regjax.example_keys` makes, so that no draw depends on the order of the examples.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from regjax.core.checks import check_bounds, check_scalar
from regjax.core.draws import normal
from regjax.core.stages import Number

PROTOCOLS = ("paper", "pixel")


def white_noise(image: jax.Array, sigma: Number, keys: jax.Array, *, protocol: str) -> jax.Array:
    """Images with Gaussian noise on every pixel.

    `x + sigma e` with `e ~ N(0, I)`, drawn with the resolution of `regjax.core.draws`. See "Noisy
    Feature Mixup" (Lim et al., 2022), tables 1 to 3, where `protocol="paper"` is what the authors'
    program does: noise on the normalised image, not clipped. `"pixel"` is noise on pixels in
    [0, 1], clipped to [0, 1], to be normalised afterwards.

    Args:
      image: `[B, H, W, K]`: for "paper" normalised, for "pixel" in [0, 1].
      sigma: `[]`, the standard deviation, in units of the image.
      keys: `[B]`, one for each example.
      protocol: "paper" or "pixel", static.

    Returns:
      `[B, H, W, K]`, of the dtype and in the units of `image`; `image` itself where sigma is 0.

    Raises:
      TypeError: the images are not floating.
      ValueError: images or keys of another shape, several levels, an unknown protocol, or for
        "pixel", outside of a trace, images beyond [0, 1].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> image, keys = jnp.ones((2, 8, 8, 3)), jax.random.split(jax.random.key(0), 2)
      >>> white_noise(image, 0.1, keys, protocol="pixel").max().item()
      1.0
    """
    check_images(image, keys)
    check_scalar("sigma", sigma)
    pixels = _is_pixel(protocol, image)
    noisy = image + (sigma * normal(keys, image.shape[1:])).astype(image.dtype)
    return jnp.clip(noisy, 0, 1) if pixels else noisy


def salt_and_pepper(
    image: jax.Array, amount: Number, keys: jax.Array, *, protocol: str
) -> jax.Array:
    """Images of which some pixels have the smallest value and some the largest.

    See "Noisy Feature Mixup" (Lim et al., 2022), tables 1 to 3. `protocol="paper"` is what the
    authors' program does: of the first channel (red) alone, `n = ceil(amount H W / 2)` pixels are
    set to that channel's minimum in this image, then n drawn anew to the maximum of what that
    leaves. Each n are distinct, but the second may hit the first, so that slightly fewer than 2n
    change. (An amount that is an array has the n of float32, which may be one off.) `"pixel"`
    replaces each pixel with probability `amount`, all its channels together, by 0 or 1 with equal
    chances.

    Args:
      image: `[B, H, W, K]`: for "paper" normalised, for "pixel" in [0, 1].
      amount: `[]`, in [0, 1], the share of the pixels.
      keys: `[B]`, one for each example.
      protocol: "paper" or "pixel", static.

    Returns:
      `[B, H, W, K]`, of the dtype and in the units of `image`; `image` itself where amount is 0.

    Raises:
      TypeError: the images are not floating.
      ValueError: images or keys of another shape, several levels, an unknown protocol, or for
        "pixel", outside of a trace, images beyond [0, 1].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> image, keys = jnp.full((2, 8, 8, 3), 0.5), jax.random.split(jax.random.key(0), 2)
      >>> jnp.unique(salt_and_pepper(image, 0.5, keys, protocol="pixel")).tolist()
      [0.0, 0.5, 1.0]
    """
    check_images(image, keys)
    check_scalar("amount", amount)
    change = _by_chance if _is_pixel(protocol, image) else _in_red
    return jax.vmap(change, (0, None, 0))(image, amount, keys)


def switched_off_pixels(image: jax.Array, amount: Number, keys: jax.Array) -> jax.Array:
    """Images of which a share of the pixels is 0, in all channels.

    Of each image exactly `round(amount H W)` pixels, distinct and uniformly drawn. See "Signed
    Input Regularization" (Taghanaki et al., 2019), table 5, which turns 50 pixels of a 32 x 32
    image off: `amount=50 / 1024`. It does not say what an off pixel is: 0 is black where the image
    is in [0, 1], and the mean colour where it is normalised.

    Args:
      image: `[B, H, W, K]`.
      amount: `[]`, in [0, 1], the share of the pixels.
      keys: `[B]`, one for each example.

    Returns:
      `[B, H, W, K]`, of the dtype and in the units of `image`; `image` itself where amount is 0.

    Raises:
      TypeError: the images are not floating.
      ValueError: images or keys of another shape, or several levels.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> image, keys = jnp.ones((2, 32, 32, 3)), jax.random.split(jax.random.key(0), 2)
      >>> (switched_off_pixels(image, 50 / 1024, keys) == 0).sum((1, 2, 3)).tolist()
      [150, 150]
    """
    check_images(image, keys)
    check_scalar("amount", amount)
    count = jnp.round(amount * image[0, :, :, 0].size)

    def switch_off(image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.where(_distinct(key, image, count)[..., None], 0, image)

    return jax.vmap(switch_off)(image, keys)


def check_images(image: jax.Array, keys: jax.Array) -> None:
    """Refuses, at trace time, what is no batch of floating images with a key for each."""
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"images must be floating, but these are {image.dtype}{list(image.shape)}: convert "
            "them, for example with image.astype('float32') / 255."
        )
    if image.ndim != 4:
        raise ValueError(f"images must be [B, H, W, K], but these are {list(image.shape)}.")
    if keys.shape != image.shape[:1]:
        raise ValueError(
            f"keys must be [{len(image)}], one for each image of {list(image.shape)}, but they are "
            f"{keys.dtype}{list(keys.shape)}: make them with jax.random.split or example_keys."
        )


def check_pixels(name: str, image: jax.Array) -> None:
    """Refuses images of 0 to 255 and normalised ones, where there are numbers to look at."""
    remedy = "divide by 255, or corrupt the images before they are normalised"
    check_bounds(image, 0, 1, expects=f"{name} is of pixels in [0, 1]", remedy=remedy)


def _is_pixel(protocol: str, image: jax.Array) -> bool:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {PROTOCOLS}, not {protocol!r}.")
    if protocol == "pixel":
        check_pixels("protocol='pixel'", image)
    return protocol == "pixel"


def _by_chance(image: jax.Array, amount: Number, key: jax.Array) -> jax.Array:
    u = jax.random.uniform(key, (*image.shape[:2], 1), jnp.float32)
    return jnp.where(u < amount / 2, 0, jnp.where(u < amount, 1, image))


def _half(amount: Number, size: int) -> int | jax.Array:
    """`ceil(amount size / 2)`, as the program has it where the amount is a number of Python's."""
    exact = isinstance(amount, int | float)
    return math.ceil(amount * size / 2) if exact else jnp.ceil(amount * size / 2)


def _in_red(image: jax.Array, amount: Number, key: jax.Array) -> jax.Array:
    to_lowest, to_highest = jax.random.split(key)
    red = image[..., 0]
    count = _half(amount, red.size)
    low, high = (_distinct(part, image, count) for part in (to_lowest, to_highest))
    red = jnp.where(low, jnp.min(red), red)
    red = jnp.where(high, jnp.max(red), red)
    return image.at[..., 0].set(red)


def _distinct(key: jax.Array, image: jax.Array, count: int | jax.Array) -> jax.Array:
    """`count` of the pixels of an image, `[H, W]` bool: those that a permutation puts first."""
    height, width = image.shape[:2]
    return (jax.random.permutation(key, height * width) < count).reshape(height, width)
