"""ACGAN's networks: `config.model = "acgan"`.

The generator is that of a public program, which begins with a dense layer of 384 numbers where the
paper has an image of 4 x 4; the critic is the paper's. At 32 x 32 with 3 channels, 100 latents, 10
labels behind them (a choice: that program writes them over the first ten latents) and width 48 they
have 1,593,888 and 1,663,867 parameters. At 28 x 28 (a choice) the generator has one layer less.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from experiments.models import dcgan, layers
from experiments.models.dcgan import NORMAL, Norm, halvings, leaky

# Of the critic's six convolutions: filters, by the width, and strides.
PLAN = ((1, 2), (2, 1), (4, 2), (8, 1), (16, 2), (32, 1))


class Generator(dcgan.Generator):
    """A dense layer, and DCGAN's generator of what it makes.

    Args:
      sizes: `generators.Sizes`.
      width: filters of the last layer but one; twice as many for each before it.
      rngs: source of the initial parameters.
    """

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs):
        dense = width * 2 ** halvings(sizes.image_shape[0])
        self.dense = nnx.Linear(sizes.inputs, dense, kernel_init=NORMAL, rngs=rngs)
        super().__init__(sizes._replace(inputs=dense), width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images `[B, H, W, K]` of x `[B, N]`."""
        return super().__call__(self.dense(x))


class Critic(nnx.Module):
    """Six 3 x 3 convolutions with BatchNorm behind all but the first, leaky ReLU, dropout of half.

    Args:
      sizes: `generators.Sizes`.
      width: that of the generator; the first layer has a third of it, 16 filters of 48.
      rngs: source of the initial parameters and of dropout.
    """

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs):
        side, _, channels = sizes.image_shape
        filters = [max(1, width // 3) * factor for factor, _ in PLAN]
        pairs = zip([channels + sizes.maps, *filters[:-1]], filters, PLAN, strict=True)
        self.convs = nnx.List([_conv(a, b, stride, rngs) for a, b, (_, stride) in pairs])
        self.norms = nnx.List([Norm(n, rngs=rngs) for n in filters[1:]])
        self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in filters])
        left = -(-side // 8)
        self.last = nnx.Linear(
            left * left * filters[-1], 1 + sizes.outputs, kernel_init=NORMAL, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Numbers `[B, 1 + M]` of images x with their maps."""
        for number, (conv, drop) in enumerate(zip(self.convs, self.drops, strict=True)):
            h = conv(x)
            h = self.norms[number - 1](h) if number else h
            x = drop(leaky(h))
        return self.last(x.reshape(len(x), -1))


def _conv(channels: int, filters: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return layers.Conv(
        channels,
        filters,
        (3, 3),
        strides=stride,
        padding=((1, 1), (1, 1)),
        use_bias=False,
        kernel_init=NORMAL,
        rngs=rngs,
    )
