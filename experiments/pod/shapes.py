"""What must be known of a data set to plan its training: shapes, without an image of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import ConfigError
from experiments.data.spec import Spec
from experiments.runs.entry_values import image_size


class Shapes(NamedTuple):
    """A data set's numbers.

    Attributes:
      image: the shape of an image, `(H, W, K)`.
      classes: the number of classes.
      examples: the number of training images.
      stored: the number of all images, which "memory" keeps on every chip.
    """

    image: tuple[int, int, int]
    classes: int
    examples: int
    stored: int


KNOWN = {
    "cifar10": Shapes((32, 32, 3), 10, 50_000, 60_000),
    "cifar100": Shapes((32, 32, 3), 100, 50_000, 60_000),
    "digits": Shapes((8, 8, 1), 10, 1_287, 1_797),
    "fashion_mnist": Shapes((28, 28, 1), 10, 60_000, 70_000),
    "imagenet2012": Shapes((224, 224, 3), 1_000, 1_281_167, 1_331_167),
    "mnist": Shapes((28, 28, 1), 10, 60_000, 70_000),
}


def of(config: Mapping[str, Any], image: str = "", classes: int = 0, examples: int = 0) -> Shapes:
    """The shapes of a config's data set.

    Args:
      config: with all entries.
      image: of an image, such as "224x224x3"; "" for the data set's, in the config's size.
      classes: the number of classes; 0 for the data set's.
      examples: the number of training images; 0 for the data set's.

    Raises:
      ConfigError: they are known neither by the data set's name nor by what is given.

    Example:
      `of(config, image="64x64x3", classes=7, examples=9_000)`
    """
    known = KNOWN.get(config["dataset"].removesuffix("_jpeg"))
    if known is None:
        if not (image and classes and examples):
            raise ConfigError(
                f"The shapes of {config['dataset']!r} are not known without its images: name "
                "--image, such as 224x224x3, --classes and --examples."
            )
        known = Shapes((0, 0, 0), classes, examples, examples)
    size, sides = image_size(config), known.image
    if image:
        sides = _sides(image)
    elif size:
        sides = (size, size, sides[2])
    more = known.stored - known.examples
    examples = examples or known.examples
    return Shapes(sides, classes or known.classes, examples, examples + more)


def _sides(text: str) -> tuple[int, int, int]:
    sides = [int(side) for side in text.split("x") if side.isdigit() and int(side)]
    if len(sides) != 3 or text != "x".join(map(str, sides)):
        raise ConfigError(f"--image={text} must be height x width x channels, such as 224x224x3.")
    height, width, channels = sides
    return height, width, channels


def spec(shapes: Shapes) -> Spec:
    """The description of such a data set, of images and one class of each."""
    example = {
        "image": jax.ShapeDtypeStruct(shapes.image, np.uint8),
        "label": jax.ShapeDtypeStruct((), np.int32),
    }
    return Spec(example, shapes.classes, tuple(map(str, range(shapes.classes))))
