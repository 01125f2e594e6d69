"""DCGAN's networks, those of the WGAN program: `config.model = "dcgan"`.

At 32 x 32 with 3 channels, 100 latents and width 64 they have 1,068,928 and 663,296 parameters. At
28 x 28 (a choice) images are halved twice, to 7 x 7, and the first layer has twice the width.
Labels for a CGAN (a choice) are one-hot behind the latent, and constant maps behind the critic's
image.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.transposed import NORMAL, ConvTranspose

SLOPE, LEAST = 0.2, 4


def _near_one(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


Norm = functools.partial(
    layers.BatchNorm, momentum=0.9, epsilon=1e-5, scale_init=_near_one
)  # torch's momentum and epsilon
Up = functools.partial(ConvTranspose, size=4, stride=2, padding=1)
Down = functools.partial(
    layers.Conv,
    kernel_size=(4, 4),
    strides=2,
    padding=((1, 1), (1, 1)),
    kernel_init=NORMAL,
)


def leaky(x: jax.Array) -> jax.Array:
    """The leaky ReLU of all critics."""
    return nnx.leaky_relu(x, SLOPE)


def halvings(side: int, least: int = LEAST) -> int:
    """How often a side can be halved, to no less than `least`.

    Example:
      >>> halvings(32), halvings(28), halvings(8), halvings(9)
      (3, 2, 1, 0)
    """
    count = 0
    while side % 2 == 0 and side // 2 >= least:
        side, count = side // 2, count + 1
    return count


class Generator(nnx.Module):
    """Transposed convolutions with BatchNorm and ReLU, tanh at the end; no biases.

    Args:
      sizes: `generators.Sizes`.
      width: filters of the last layer but one; twice as many for each before it.
      rngs: source of the initial parameters.
    """

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs):
        side, _, channels = sizes.image_shape
        count = halvings(side)
        filters = [width * 2**i for i in reversed(range(count))]
        start = side // 2**count
        self.first = ConvTranspose(sizes.inputs, filters[0], start, rngs=rngs)
        pairs = zip(filters, [*filters[1:], channels], strict=True)
        self.ups = nnx.List([Up(a, b, rngs=rngs) for a, b in pairs])
        self.norms = nnx.List([Norm(n, rngs=rngs) for n in filters])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images `[B, H, W, K]` of x `[B, N]`."""
        h = self.first(x[:, None, None, :])
        for norm, up in zip(self.norms, self.ups, strict=True):
            h = up(nnx.relu(norm(h)))
        return jnp.tanh(h)


class Critic(nnx.Module):
    """Convolutions with stride 2, BatchNorm behind all but the first, leaky ReLU; no biases.

    Args:
      sizes: `generators.Sizes`.
      width: filters of the first layer; twice as many for each behind it.
      rngs: source of the initial parameters.
    """

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs):
        side, _, channels = sizes.image_shape
        count = halvings(side)
        filters = [width * 2**i for i in range(count)]
        left = side // 2**count
        pairs = zip([channels + sizes.maps, *filters[:-1]], filters, strict=True)
        self.downs = nnx.List([Down(a, b, use_bias=False, rngs=rngs) for a, b in pairs])
        self.norms = nnx.List([Norm(n, rngs=rngs) for n in filters[1:]])
        flat = left * left * filters[-1]
        self.last = nnx.Linear(
            flat, 1 + sizes.outputs, use_bias=False, kernel_init=NORMAL, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Numbers `[B, 1 + M]` of images x with their maps."""
        h = leaky(self.downs[0](x))
        for down, norm in zip(list(self.downs)[1:], self.norms, strict=True):
            h = leaky(norm(down(h)))
        return self.last(h.reshape(len(h), -1))
