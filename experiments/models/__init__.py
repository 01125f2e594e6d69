"""The architectures of the papers, by name."""

import functools
from collections.abc import Callable

from flax import nnx

from experiments.models import cifar_resnet, thesis

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "small_cnn": thesis.SmallCNN,
    "thesis_resnet": thesis.ThesisResNet,
    **{
        f"resnet{depth}": functools.partial(cifar_resnet.CifarResNet, depth=depth)
        for depth in (20, 32, 44, 56, 110)
    },
}


def create(
    name: str, image_shape: tuple[int, int, int], classes: int, rngs: nnx.Rngs
) -> nnx.Module:
    """Build the model `name` for images [H, W, K] and `classes` logits.

    Raises:
      ValueError: there is no model of that name.
    """
    if name not in MODELS:
        raise ValueError(f"Unknown model {name!r}; known models: {', '.join(MODELS)}.")
    return MODELS[name](image_shape, classes, rngs=rngs)
