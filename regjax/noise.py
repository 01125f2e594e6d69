"""Noise on the input and in hidden layers."""

from __future__ import annotations

import jax

from regjax.core.batch import Batch, example_keys
from regjax.core.draws import normal, perturb
from regjax.core.forward import Forward
from regjax.core.keys import named_key
from regjax.core.precision import wide
from regjax.core.stages import AtLeastZero, wrapper
from regjax.core.taps import tapped


@wrapper
def noise_injection(
    forward: Forward, batch: Batch, key: jax.Array, *, sigma: AtLeastZero
) -> tuple[Forward, Batch]:
    """Gaussian noise on the image.

    `loss(x + sigma e, y)` with `e ~ N(0, I)`. See the thesis, eq. (57). Each example's noise is
    drawn by `batch.index`, whatever its place in the batch and the device it is on, with the
    resolution of `regjax.core.draws`, so no pixel is moved by more than 4.33 sigma.

    Helps against noise at test time and, with few examples, against overfitting. Costs 1.00 times
    the plain step in FLOPs.

    Args:
      loss: the loss to wrap (positional).
      sigma: the standard deviation, in units of the image.

    Returns:
      A `Loss`.

    Example:
      >>> import regjax as rj
      >>> rj.noise_injection(rj.cross_entropy(), sigma=0.1)
      cross_entropy | noise_injection(sigma=0.1)
    """
    image = batch.image
    noise = normal(example_keys(key, batch), image.shape[1:])
    return forward, batch.replace(image=(wide(image) + sigma * noise).astype(image.dtype))


@wrapper
def feature_noise(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    add: AtLeastZero,
    multiply: AtLeastZero,
    layers: tuple[str, ...],
) -> tuple[Forward, Batch]:
    """Noise that is added to what the named layers compute, and multiplied with it.

    `h <- (1 + multiply U) h + add Z` in each layer, elementwise `U ~ Uniform(-1, 1)` and
    `Z ~ N(0, 1)`: step 4 of Noisy Feature Mixup (Lim et al., 2022), without mixing and at every
    layer named. Each example draws by `batch.index`; a layer's draw depends on its name, not on
    which other layers there are.

    Helps against noise at test time. Costs 1.00 times the plain step in FLOPs; in time it depends
    on how large the layers are, since each element takes two random numbers.

    Args:
      loss: the loss to wrap (positional).
      add: the standard deviation of the added noise, in units of the layer's output.
      multiply: the largest relative change by the factor.
      layers: names out of `forward.layers`, `"input"` among them.

    Returns:
      A `Loss`.

    Raises:
      TypeError: `layers` is one string.
      ValueError: a layer is unknown, named twice, or its output is not `[B, ...]`.

    Example:
      >>> import regjax as rj
      >>> rj.feature_noise(rj.cross_entropy(), add=0.2, multiply=0.1, layers=("input",))
      cross_entropy | feature_noise(add=0.2, multiply=0.1, layers=('input',))
    """

    def tap(layer: str, h: jax.Array) -> jax.Array:
        noisy = perturb(h, named_key(key, layer), batch, add=add, multiply=multiply)
        return noisy.astype(h.dtype)

    return tapped(forward, batch, tap, layers), batch
