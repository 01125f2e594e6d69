"""The architectures of the papers, by name."""

import functools
from collections.abc import Callable

from flax import nnx

from experiments.models import cifar_resnet, resnet, thesis

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "small_cnn": thesis.SmallCNN,
    "thesis_resnet": thesis.ThesisResNet,
    **{
        f"resnet{depth}": functools.partial(cifar_resnet.CifarResNet, depth=depth)
        for depth in (20, 32, 44, 56, 110)
    },
    "resnet50": resnet.ResNet50,
}


def create(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    rngs: nnx.Rngs,
    *,
    axis_name: str | None = None,
) -> nnx.Module:
    """Build the model `name` for images [H, W, K] and `classes` logits.

    Args:
      name: one of `MODELS`.
      image_shape: (height, width, channels).
      classes: number of logits.
      rngs: source of the initial parameters.
      axis_name: in a `pmap` or `shard_map`, the axis over which BatchNorm takes its statistics.

    Raises:
      ValueError: there is no model of that name.
    """
    if name not in MODELS:
        raise ValueError(f"Unknown model {name!r}; known models: {', '.join(MODELS)}.")
    model = MODELS[name](image_shape, classes, rngs=rngs)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            module.axis_name = axis_name
    return model
