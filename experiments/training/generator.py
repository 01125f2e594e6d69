"""A generator with its parameters, as a function from latents and labels to images."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

import regjax as rj


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("network",),
    meta_fields=("latents", "classes", "image_shape", "codes", "of"),
)
@dataclasses.dataclass(frozen=True)
class Generator:
    """A generator with its parameters: a pure function, and a pytree.

    Attributes:
      network: the network or, of one for each class, networks whose arrays have a leading axis of
        classes; BatchNorm at its averages.
      latents: the size of a latent, L, with the codes.
      classes: the number of classes, C.
      image_shape: the shape of an image, `(H, W, K)`.
      codes: the last numbers of a latent, which are from U(-1, 1) where others are from N(0, 1).
      of: the part of the labels in it: "labels", of which it is told, "networks", one for each, or
        "nothing" of one without labels.
    """

    network: rj.Forward
    latents: int
    classes: int
    image_shape: tuple[int, ...]
    codes: int = 0
    of: str = "labels"

    def __call__(self, latent: jax.Array, label: jax.Array) -> jax.Array:
        """Images of latents, differentiable with respect to them.

        Args:
          latent: float32 `[B, L]`.
          label: int32 `[B]`, the class that is asked for.

        Returns:
          Pixels in [0, 1], float32 `[B, H, W, K]`.

        Raises:
          ValueError: latents or labels are of another shape.
        """
        if label.ndim != 1 or latent.shape != (len(label), self.latents):
            raise ValueError(
                f"the generator is of latents [B, {self.latents}] and labels [B], but these are "
                f"{list(latent.shape)} and {list(label.shape)}."
            )
        if self.of == "networks":
            return self._chosen(latent, label)
        one_hot = jax.nn.one_hot(label, self.classes)
        return pixels(self.network(told(latent, one_hot, self.of)).logits)

    def draw(self, key: jax.Array, label: jax.Array) -> jax.Array:
        """Images of latents that are drawn, `[B, H, W, K]`; the same for the same key."""
        return self.drawn(jax.random.split(key, len(label)), label)

    def drawn(self, keys: jax.Array, label: jax.Array) -> jax.Array:
        """Images `[B, H, W, K]` of a key each, `[B]`."""
        return self(drawn_latents(keys, self.latents, self.codes), label)

    def _chosen(self, latent: jax.Array, label: jax.Array) -> jax.Array:
        """Of the images of every class's network those of the labels."""

        def add(image: jax.Array, each: tuple[jax.Array, rj.Forward]) -> tuple[jax.Array, None]:
            number, network = each
            theirs = pixels(network(latent).logits)
            return jnp.where((label == number)[:, None, None, None], theirs, image), None

        nothing = jnp.zeros((len(label), *self.image_shape))
        return jax.lax.scan(add, nothing, (jnp.arange(self.classes), self.network))[0]


def pixels(image: jax.Array) -> jax.Array:
    """From a network's images in [-1, 1] to pixels in [0, 1].

    Example:
      >>> print(pixels(jnp.array([-1.0, 0.0, 1.0])))
      [0.  0.5 1. ]
    """
    return (image + 1) / 2


def told(latent: jax.Array, label: jax.Array, of: str) -> jax.Array:
    """What a generator is given: latents `[B, L]`, with one-hot labels `[B, C]` behind them.

    Example:
      >>> print(told(jnp.zeros((1, 2)), jnp.array([[0.0, 1.0]]), "labels"))
      [[0. 0. 0. 1.]]
    """
    return jnp.concatenate([latent, label], -1) if of == "labels" else latent


def drawn_latents(keys: jax.Array, latents: int, codes: int) -> jax.Array:
    """A latent of each key, `[B, L]`: from N(0, 1), the last `codes` from U(-1, 1).

    Example:
      >>> drawn_latents(jax.random.split(jax.random.key(0), 3), latents=5, codes=2).shape
      (3, 5)
    """

    def draw(key: jax.Array) -> jax.Array:
        normal, uniform = jax.random.split(key)
        first = jax.random.normal(normal, (latents - codes,))
        return jnp.concatenate([first, jax.random.uniform(uniform, (codes,), minval=-1)])

    return jax.vmap(draw)(keys)
