"""Networks with more that is trained than what makes their logits: a second head, covariances.

Both take a network of this package by name, such as `"two_headed(model='resnet32')"`, and leave its
layers and their names as they are, but for the head.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments import models
from experiments.models import layers

DEVIATION = 0.1  # of learned covariances before the training; 0 would be a saddle


class TwoHeads(nnx.Module):
    """A network's last linear layer, and another of the same features.

    Args:
      main: the layer that ends in logits.
      second: the other, whose output losses read as `outputs.auxiliary[0].logits`.
    """

    def __init__(self, main: nnx.Linear, second: nnx.Linear):
        self.main, self.second = main, second

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of features x [B, A]."""
        self.second(x)  # seen by those who bind it; nobody else computes it
        return self.main(x)


def two_headed(
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    model: str,
    outputs: int | None = None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """A network with a second linear head, as `distribution_net` needs it.

    Its first head is called "head.main", its second "head.second".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      model: the network's own, with its arguments.
      outputs: numbers of the second head; None for as many as there are features.
      rngs: source of the initial parameters.

    Returns:
      The network.

    Raises:
      ValueError: its last linear layer is not its attribute `head`.
    """
    network, main = _headed(model, image_shape, classes, rngs)
    width = main.kernel.shape[0]
    network.head = TwoHeads(main, layers.Linear(width, outputs or width, rngs=rngs))
    network.head_name, network.auxiliary_names = "head.main", ("head.second",)
    return network


def with_covariances(
    image_shape: tuple[int, int, int], classes: int, *, model: str, rngs: nnx.Rngs
) -> nnx.Module:
    """A network with a matrix D [A, A] of each class beside it, as `learned_augmentation` needs it.

    They are its parameter "covariances", [C, A, A], a tenth of the identity each at first:
    `learned_augmentation(parameter='covariances', ...)` trains them with the network.

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      model: the network's own, with its arguments.
      rngs: source of the initial parameters.

    Returns:
      The network.

    Raises:
      ValueError: its last linear layer is not its attribute `head`.
    """
    network, main = _headed(model, image_shape, classes, rngs)
    width = main.kernel.shape[0]
    network.covariances = nnx.Param(jnp.tile(DEVIATION * jnp.eye(width), (classes, 1, 1)))
    return network


def _headed(
    model: str, image_shape: tuple[int, int, int], classes: int, rngs: nnx.Rngs
) -> tuple[Any, nnx.Linear]:
    """The network of a name, and its head."""
    network: Any = models.create(model, image_shape, classes, rngs)
    head = getattr(network, "head", None)
    if not isinstance(network, nnx.Module) or not isinstance(head, nnx.Linear):
        raise ValueError(
            f"the model {model} must be a module of Flax NNX whose last linear layer is its "
            "attribute 'head'."
        )
    return network, head
