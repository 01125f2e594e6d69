"""A trained generator, as a function from latents and labels to images."""

from __future__ import annotations

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp

import regjax as rj
from experiments import ConfigError
from experiments.runs import folder
from experiments.runs.load import Trained, trained
from experiments.training import games


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
        if latent.shape != (len(label), self.latents) or label.ndim != 1:
            raise ValueError(
                f"the generator is of latents [B, {self.latents}] and labels [B], but these are "
                f"{list(latent.shape)} and {list(label.shape)}."
            )
        if self.of == "networks":
            return self._chosen(latent, label)
        told = self.classes if self.of == "labels" else 0
        return games.pixels(self.network(games.told(latent, label, told)).logits)

    def draw(self, key: jax.Array, label: jax.Array) -> jax.Array:
        """Images of latents that are drawn, `[B, H, W, K]`; the same for the same key."""
        keys = jax.random.split(key, len(label))
        latent = jax.vmap(functools.partial(games.latent, self.latents, self.codes))(keys)
        return self(latent, label)

    def _chosen(self, latent: jax.Array, label: jax.Array) -> jax.Array:
        """Of the images of every class's network those of the labels."""

        def add(image: jax.Array, each: tuple[jax.Array, rj.Forward]) -> tuple[jax.Array, None]:
            number, network = each
            theirs = games.pixels(network(latent).logits)
            return jnp.where((label == number)[:, None, None, None], theirs, image), None

        nothing = jnp.zeros((len(label), *self.image_shape))
        return jax.lax.scan(add, nothing, (jnp.arange(self.classes), self.network))[0]


def load(run: str | os.PathLike[str], method: str = "", seed: int = 0) -> Generator:
    """The generator of a run, out of a work folder of `experiments.generate`.

    Args:
      run: the folder.
      method: one of the config's losses, by name; "" where there is only one.
      seed: of the run.

    Raises:
      ValueError: there is no such run, or several, or it trained no generator.

    Example:
      `load("runs/mnist_generators").draw(jax.random.key(0), jnp.arange(10))`
    """
    return generator(trained(run, method or only(run), seed=seed))


def only(run: str | os.PathLike[str]) -> str:
    """The one method of a work folder; ConfigError where there are several."""
    methods = list(folder.read(run).config["losses"])
    if len(methods) != 1:
        raise ConfigError(f"{run} has several methods: name one of {', '.join(methods)}.")
    return methods[0]


def generator(found: Trained) -> Generator:
    """The generator of a run that `load.trained` has read; ValueError where it has none."""
    task, spec = found.task, found.spec
    if not isinstance(task, games.Game):
        raise ValueError("the run trained no generator: only those of experiments.generate do.")
    objective = found.experiment.parse(found.loss)
    return Generator(
        network=task.network(found.state),
        latents=task.latents,
        classes=spec.classes,
        image_shape=tuple(spec.shape),
        codes=task.codes,
        of=objective.of,
    )
