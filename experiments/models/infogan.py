"""infoGAN's networks, the paper's for SVHN: `config.model = "infogan"`.

At 32 x 32 with 3 channels, 100 latents, 10 classes, 2 codes and width 64 the generator has
2,700,483 parameters, the critic's trunk 659,648, its head 4,097, and that of classes and codes
526,220. At 28 x 28 (a choice) the generator begins at 7 x 7 with its last two layers, as the
paper's for MNIST does.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models.dcgan import NORMAL, Down, Norm, Up, halvings, leaky

FACTORS = (7, 4, 2, 1)  # of the generator's filters, by the width
BEHIND = 2  # so many of its images have BatchNorm
CODES = 128  # numbers of the layer before classes and codes, of width 64


class Generator(nnx.Module):
    """A dense layer, then transposed convolutions; BatchNorm behind the first two; tanh at the end.

    Args:
      sizes: `generators.Sizes`.
      width: filters of the last layer but one.
      rngs: source of the initial parameters.
    """

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs):
        side, _, channels = sizes.image_shape
        count = min(halvings(side, least=2), len(FACTORS))
        filters = [width * factor for factor in FACTORS[-count:]]
        start = side // 2**count
        self._first = (start, start, filters[0])
        dense = start * start * filters[0]
        self.dense = nnx.Linear(sizes.inputs, dense, kernel_init=NORMAL, rngs=rngs)
        pairs = zip(filters, [*filters[1:], channels], strict=True)
        self.ups = nnx.List([Up(a, b, use_bias=True, rngs=rngs) for a, b in pairs])
        behind = [dense, *filters[1:]][:BEHIND]
        self.norms = nnx.List([Norm(n, rngs=rngs) for n in behind])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images `[B, H, W, K]` of x `[B, N]`."""
        h = self.norms[0](self.dense(x)).reshape(len(x), *self._first)
        for number, up in enumerate(self.ups):
            norm = self.norms[number] if 0 < number < len(self.norms) else lambda h: h
            h = up(nnx.relu(norm(h)))
        return jnp.tanh(h)


class Critic(nnx.Module):
    """Three 4 x 4 convolutions with stride 2, leaky ReLU, and two heads.

    Args:
      sizes: `generators.Sizes`; without outputs beside the first there is one head.
      width: filters of the first layer.
      rngs: source of the initial parameters.
    """

    def __init__(self, sizes: Any, width: int, *, rngs: nnx.Rngs):
        side, _, channels = sizes.image_shape
        filters = [width, 2 * width, 4 * width]
        pairs = zip([channels + sizes.maps, *filters[:-1]], filters, strict=True)
        self.downs = nnx.List([Down(a, b, rngs=rngs) for a, b in pairs])
        self.norms = nnx.List([Norm(n, rngs=rngs) for n in filters[1:]])
        flat, hidden = (side // 8) ** 2 * filters[-1], max(1, CODES * width // 64)
        self.real = nnx.Linear(flat, 1, kernel_init=NORMAL, rngs=rngs)
        self.told = bool(sizes.outputs)
        if self.told:
            self.hidden = nnx.Linear(flat, hidden, kernel_init=NORMAL, rngs=rngs)
            self.hidden_norm = Norm(hidden, rngs=rngs)
            self.codes = nnx.Linear(hidden, sizes.outputs, kernel_init=NORMAL, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Numbers `[B, 1 + M]` of images x with their maps."""
        h = leaky(self.downs[0](x))
        for down, norm in zip(list(self.downs)[1:], self.norms, strict=True):
            h = leaky(norm(down(h)))
        h = h.reshape(len(h), -1)
        if not self.told:
            return self.real(h)
        codes = self.codes(leaky(self.hidden_norm(self.hidden(h))))
        return jnp.concatenate([self.real(h), codes], -1)
