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
      norm_logits: whether the logits have BatchNorm too, as in that paper's program: no class can
        then take all images of a batch. Without a linear head, hence not for ISDA.
      noise: deviation of the noise on each hidden layer in training; 0.5 in that paper's program
        with 100 labels of MNIST.
      zero_head: whether the last kernel begins at 0, so that all classes are equally likely and
        unlabelled images have no say before labelled ones have said what classes are.
      rngs: source of the initial parameters, and of noise.

    Raises:
      ValueError: a width that is no whole number above 0, or no widths.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        widths: Sequence[int] = (1200, 600, 300, 150),
        norm_logits: bool = False,
        noise: float = 0.0,
        zero_head: bool = False,
        rngs: nnx.Rngs,
    ):
        if not widths or not all(isinstance(n, int) and n > 0 for n in widths):
            raise ValueError(f"mlp needs widths such as (300, 100), got {tuple(widths)}.")
        pairs = itertools.pairwise((math.prod(image_shape), *widths))
        # BatchNorm takes a bias out again.
        dense = functools.partial(layers.Linear, use_bias=False, kernel_init=HE, rngs=rngs)
        self.hidden = nnx.List([dense(*pair) for pair in pairs])
        self.norms = nnx.List([layers.residual_norm(n, rngs) for n in widths])
        self.noise = layers.Noise(noise, rngs=rngs) if noise else None
        first = nnx.initializers.zeros if zero_head else layers.GLOROT
        self.head = layers.Linear(widths[-1], classes, kernel_init=first, rngs=rngs)
        self.last_norm = layers.residual_norm(classes, rngs) if norm_logits else None
        self.head_name = None if norm_logits else "head"

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        h = x.reshape(len(x), -1)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            h = nnx.relu(norm(layer(h)))
            h = h if self.noise is None else self.noise(h)
        logits = self.head(h)
        return logits if self.last_norm is None else self.last_norm(logits)
