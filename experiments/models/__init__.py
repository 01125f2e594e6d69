"""The architectures of the papers, by name."""

from flax import nnx

from experiments.models import thesis

MODELS = {"small_cnn": thesis.SmallCNN, "thesis_resnet": thesis.ThesisResNet}


def create(
    name: str, image_shape: tuple[int, int, int], classes: int, rngs: nnx.Rngs
) -> nnx.Module:
    """Build the model `name` for images [H, W, K] and `classes` logits.

    Raises:
      ValueError: there is no model of that name.
    """
    if name not in MODELS:
        raise ValueError(f"Unknown model {name!r}; known models: {', '.join(sorted(MODELS))}.")
    return MODELS[name](image_shape, classes, rngs=rngs)
