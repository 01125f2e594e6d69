"""Dense layers with BatchNorm, as semi-supervised learning on MNIST takes them."""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
from flax import nnx

from experiments.models import layers

HE = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class Mlp(nnx.Module):
    """Dense layers, each with BatchNorm and a ReLU, and a linear one.

    "Virtual Adversarial Training" (Miyato et al., 2018) has 1200, 600, 300 and 150 units on MNIST.
    Layers for taps: "input", "hidden.0", "hidden.1", ...

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      widths: units of the layers.
      rngs: source of the initial parameters.

    Raises:
      ValueError: a width that is no whole number above 0, or no widths.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        widths: Sequence[int] = (1200, 600, 300, 150),
        rngs: nnx.Rngs,
    ):
        if not widths or not all(isinstance(n, int) and n > 0 for n in widths):
            raise ValueError(f"mlp needs widths such as (300, 100), got {tuple(widths)}.")
        pairs = itertools.pairwise((math.prod(image_shape), *widths))
        # BatchNorm takes a bias out again.
        dense = functools.partial(layers.Linear, use_bias=False, kernel_init=HE, rngs=rngs)
        self.hidden = nnx.List([dense(*pair) for pair in pairs])
        self.norms = nnx.List([layers.residual_norm(n, rngs) for n in widths])
        self.head = layers.Linear(widths[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        h = x.reshape(len(x), -1)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            h = nnx.relu(norm(layer(h)))
        return self.head(h)
