"""Random numbers in bulk, 16 bits each: on CPUs they can cost more than the network's arithmetic.

`jax.random.normal` and `uniform` spend one call of the generator, 64 bits, on every number. Here a
call yields four numbers, of 16 bits each, which is resolution enough for noise: the distribution
functions are off by 5e-5 at most, and variances by 3e-5. Normals end at 4.33 standard deviations,
beyond which one draw in 65,536 would lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from regjax.core.batch import Batch, example_keys
from regjax.core.precision import wide
from regjax.core.stages import Number

# sqrt(2) erfinv(u) / u as a polynomial in log(1 - u^2), highest power first: fitted to the 65,536
# values of u, the largest error made as small as possible.
_QUANTILE = (
    4.8302079e-07,
    2.6860121e-05,
    5.7824002e-04,
    5.9103739e-03,
    2.0625703e-02,
    -3.2512236e-01,
    1.2538926,
)


def uniform(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform in (-1, 1): odd multiples of 2^-16, hence of mean 0.

    Args:
      keys: `[B]`, one for each example, such as `example_keys` makes.
      shape: of one example.

    Returns:
      `[B, *shape]`, float32.

    Example:
      >>> import jax
      >>> uniform(jax.random.split(jax.random.key(0), 4), (3, 2)).shape
      (4, 3, 2)
    """
    count = math.prod(shape)

    def draw(key: jax.Array) -> jax.Array:
        # The newer layout of the generator throws one of its two words away, so that single arrays
        # can be split over devices; here every example has a key of its own.
        with jax.threefry_partitionable(False):
            words = jax.random.bits(key, ((count + 1) // 2,), jnp.uint32)
        # Halves side by side, not interleaved: a copy of whole rows.
        halves = jnp.concatenate([words.astype(jnp.uint16), (words >> 16).astype(jnp.uint16)])
        return halves[:count].astype(jnp.float32).reshape(shape) * 2.0**-15 - (1 - 2.0**-16)

    return jax.vmap(draw)(keys)


def normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal: `sqrt(2) erfinv(u)` of the `u` that `uniform` draws, to within 1.1e-4.

    Args:
      keys: `[B]`, one for each example, such as `example_keys` makes.
      shape: of one example.

    Returns:
      `[B, *shape]`, float32, at most 4.33 in size.

    Example:
      >>> import jax
      >>> normal(jax.random.split(jax.random.key(0), 4), (3, 2)).shape
      (4, 3, 2)
    """
    return quantile(uniform(keys, shape))


def quantile(u: jax.Array) -> jax.Array:
    """`sqrt(2) erfinv(u)` to within 1.1e-4, of what `uniform` draws: a standard normal.

    Example:
      >>> print(quantile(jnp.array(0.6827)).round(3))
      1.0
    """
    # Half the operations of erfinv, which is exact to more bits than u has.
    w = jnp.log((1 - u) * (1 + u))
    value = jnp.full_like(w, _QUANTILE[0])
    for coefficient in _QUANTILE[1:]:
        value = value * w + coefficient
    return u * value


def perturb(
    h: jax.Array, key: jax.Array, batch: Batch, *, add: Number, multiply: Number
) -> jax.Array:
    """`(1 + multiply U) h + add Z`, elementwise `U ~ Uniform(-1, 1)` and `Z ~ N(0, 1)`.

    Args:
      h: `[B, ...]`.
      key: drives the draw.
      batch: the examples, for `batch.index`.
      add: `[]`, in units of `h`.
      multiply: `[]`, relative to `h`.

    Returns:
      `[B, ...]`, in float32 at least; `h` itself where both are 0.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> batch = rj.Batch(jnp.ones((2, 3)), jnp.ones((2, 1)))
      >>> perturb(batch.image, jax.random.key(0), batch, add=0.0, multiply=0.0).tolist()
      [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    to_factor, to_add = jax.random.split(key)
    factor = 1 + multiply * uniform(example_keys(to_factor, batch), h.shape[1:])
    return factor * wide(h) + add * normal(example_keys(to_add, batch), h.shape[1:])


def noise_of_levels(
    key: jax.Array, batch: Batch, add: Number, multiply: Number, random_levels: bool
) -> Callable[[jax.Array], jax.Array]:
    """`perturb` with levels that may be random: each times a draw of Beta(2, 5) of its own.

    Args:
      key: drives the draws.
      batch: the examples, for `batch.index`.
      add: as in `perturb`.
      multiply: as in `perturb`.
      random_levels: whether they are, one draw each for the batch.

    Returns:
      `h [B, ...] -> [B, ...]`, the same draw at every call.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> batch = rj.Batch(jnp.ones((2, 3)), jnp.ones((2, 1)))
      >>> noise_of_levels(jax.random.key(0), batch, 0.4, 0.2, True)(batch.image).shape
      (2, 3)
    """
    key, to_add, to_multiply = jax.random.split(key, 3)
    if random_levels:
        add, multiply = add * _beta_2_5(to_add), multiply * _beta_2_5(to_multiply)
    return lambda h: perturb(h, key, batch, add=add, multiply=multiply)


def _beta_2_5(key: jax.Array) -> jax.Array:
    # The second smallest of six uniforms; cheaper than two gamma draws by rejection.
    return jnp.sort(jax.random.uniform(key, (6,), jnp.float32))[1]
