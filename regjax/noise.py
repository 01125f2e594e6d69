"""Noise on the input, on the labels and in hidden layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from regjax.base import named_key
from regjax.batch import Batch, example_keys
from regjax.checks import check_one_label
from regjax.draws import normal, perturb
from regjax.forward import Forward, Tap, check_names
from regjax.norms import wide
from regjax.stages import Number, wrapper


@wrapper
def noise_injection(
    forward: Forward, batch: Batch, key: jax.Array, *, sigma: Number
) -> tuple[Forward, Batch]:
    """Adds Gaussian noise to the image.

    `loss(x + sigma e, y)` with `e ~ N(0, I)`. See the thesis, eq. (57). Each example's noise is
    drawn by `batch.index`, whatever its place in the batch and the device it is on, with the
    resolution of `regjax.draws`, so no pixel is moved by more than 4.33 sigma.

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
def disturb_label(
    forward: Forward, batch: Batch, key: jax.Array, *, rate: Number
) -> tuple[Forward, Batch]:
    """Gives some examples a label at random.

    With probability `rate` the label becomes one of all C classes, drawn uniformly, so that a true
    label stays with probability `1 - rate (C - 1) / C`. See "DisturbLabel: Regularizing CNN on the
    Loss Layer" (Xie et al., 2016), section 3. Each example draws by `batch.index`.

    Helps against overfitting, much as dropout does. Costs nothing.

    Args:
      loss: the loss to wrap; its labels are `[B, C]` (positional).
      rate: between 0 (no label is touched) and 1.

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, the labels are not `[B, C]`.

    Example:
      >>> import regjax as rj
      >>> rj.disturb_label(rj.cross_entropy(), rate=0.1)
      cross_entropy | disturb_label(rate=0.1)
    """
    check_one_label(batch, "disturb_label")
    label = batch.label

    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        to_choose, to_class = jax.random.split(key)
        drawn = jax.random.randint(to_class, (), 0, label.shape[-1])
        return jax.random.uniform(to_choose, dtype=jnp.float32), drawn

    chance, drawn = jax.vmap(draw)(example_keys(key, batch))
    other = jax.nn.one_hot(drawn, label.shape[-1], dtype=label.dtype)
    return forward, batch.replace(label=jnp.where(chance[:, None] < rate, other, label))


@wrapper
def feature_noise(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    add: Number,
    multiply: Number,
    layers: tuple[str, ...],
) -> tuple[Forward, Batch]:
    """Adds noise to what the named layers compute, and multiplies it by noise.

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


def tapped(forward: Forward, batch: Batch, tap: Tap, layers: tuple[str, ...]) -> Forward:
    """`forward.with_tap`, for taps that treat the rows of a layer's output as the examples.

    Args:
      forward: the network.
      batch: the examples.
      tap: `tap(layer, h [B, ...]) -> h`.
      layers: names out of `forward.layers`.

    Returns:
      A `Forward` for use inside the current trace.

    Raises:
      TypeError: `layers` is one string.
      ValueError: `layers` is empty or names one unknown or twice; at trace time, a layer's output
        is not `[B, ...]`.
    """
    check_names(layers)
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must name at least one layer, and each once, not {layers}.")
    size = batch.image.shape[0]

    def checked(layer: str, h: jax.Array) -> jax.Array:
        if h.shape[:1] != (size,):
            raise ValueError(
                f"the output of layer {layer!r} is {h.dtype}{list(h.shape)}, but its first axis "
                f"must be the batch of {size}: name another layer."
            )
        return tap(layer, h)

    return forward.with_tap(checked, layers=layers)
