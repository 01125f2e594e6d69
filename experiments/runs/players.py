"""From a config's entries to two players: their networks, optimizer and data."""

from __future__ import annotations

from collections.abc import Callable

import jax
from flax import nnx

import regjax as rj
import regjax.flax
from experiments import ConfigError
from experiments.data.spec import Spec
from experiments.models import generators
from experiments.runs.experiment import Config
from experiments.runs.networks import rate
from experiments.training import optimizers
from experiments.training.games import Game
from experiments.training.objectives import Objective

# Entries of all configs that mean nothing to two players.
UNUSED = {
    "dtype": "float32",
    "accumulate": 1,
    "mean": (),
    "std": (),
    "whiten": "",
    "unlabeled_batch_size": 0,
    "evaluate_teacher": False,
    "init_from": "",
}


def builder(
    text: str, shape: tuple[int, ...], classes: int
) -> Callable[..., dict[str, rj.Forward]]:
    """The function `(objective, key, axis_name=None) -> {player: Forward}` of fresh networks.

    Args:
      text: a pair of networks with arguments, such as `"dcgan(width=64, latents=100)"`.
      shape: of an image, `(H, W, K)`.
      classes: of the data set.

    Raises:
      ValueError: there is no such pair; in the function, images have a size that it cannot make.
    """
    pair, latents = generators.read(text)

    def build(
        objective: Objective, key: jax.Array, axis_name: str | None = None
    ) -> dict[str, rj.Forward]:
        told = classes if objective.of == "labels" else 0
        sizes = generators.Sizes(
            image_shape=shape,
            inputs=latents + objective.codes + told,
            maps=objective.maps(classes),
            outputs=objective.outputs(classes),
        )
        models = generators.create(pair, sizes, key)
        for model in models.values():
            for _, module in nnx.iter_modules(model):
                if isinstance(module, nnx.BatchNorm):
                    module.axis_name = axis_name
        return {player: regjax.flax.bind(model) for player, model in models.items()}

    return build


def game(config: Config, spec: Spec, steps_per_epoch: float) -> Game:
    """The task of two players, as the config says.

    Raises:
      ConfigError: an entry means nothing to them, or labels are of pixels.
    """
    for name, needed in UNUSED.items():
        given = config[name]
        if (tuple(given) if isinstance(needed, tuple) else given) != needed:
            raise ConfigError(
                f"config.{name} must stay {needed!r} where generators are trained, not {given!r}: "
                "pixels are brought to [-1, 1], and each step is one of float32 on its whole batch."
            )
    if spec.example["label"].shape:
        raise ConfigError(f"generators are of images with one label, not of {config['dataset']!r}.")
    try:
        build = builder(config["model"], spec.shape, spec.classes)
    except ValueError as error:
        raise ConfigError(f"config.model: {error}") from None
    return Game(
        build=build,
        optimizer=optimizers.optimizer(
            config["optimizer"], rate(config, steps_per_epoch), config["clip_norm"]
        ),
        noise=generators.read(config["model"])[1],
        classes=spec.classes,
        example=spec.example,
        decay=config["average"],
    )
