"""What is trained beside the layers that make a network's logits: a second head, covariances.

By config, `"two_headed(model='resnet32')"` and `"with_covariances(model='resnet32')"`. A network's
layers and their names stay as they are, but for the head.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

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


def with_second_head(network: Any, outputs: int | None, rngs: nnx.Rngs) -> nnx.Module:
    """A network with a second linear head, as `distribution_net` needs it.

    Its first head is called "head.main", its second "head.second".

    Args:
      network: a module whose last linear layer is its attribute `head`; it is changed.
      outputs: numbers of the second head; None for as many as there are features.
      rngs: source of its initial parameters.

    Returns:
      The network.

    Raises:
      ValueError: there is no such layer.
    """
    main = _head(network)
    width = main.kernel.shape[0]
    network.head = TwoHeads(main, layers.Linear(width, outputs or width, rngs=rngs))
    network.head_name, network.auxiliary_names = "head.main", ("head.second",)
    return network


def with_covariances(network: Any, classes: int) -> nnx.Module:
    """A network with a matrix D [A, A] of each class beside it, as `learned_augmentation` needs it.

    They are its parameter "covariances", [C, A, A], a tenth of the identity each at first:
    `learned_augmentation(parameter='covariances', ...)` trains them with the network.

    Args:
      network: a module whose last linear layer is its attribute `head`; it is changed.
      classes: number of logits.

    Returns:
      The network.

    Raises:
      ValueError: there is no such layer.
    """
    own = DEVIATION * jnp.eye(_head(network).kernel.shape[0])
    network.covariances = nnx.Param(jnp.tile(own, (classes, 1, 1)))
    return network


def _head(network: Any) -> nnx.Linear:
    head = getattr(network, "head", None)
    if not isinstance(network, nnx.Module) or not isinstance(head, nnx.Linear):
        raise ValueError(
            f"the model {type(network).__name__} must be a module of Flax NNX whose last linear "
            "layer is its attribute 'head'."
        )
    return head
