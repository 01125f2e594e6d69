"""Test images that are drawn by a seed, where a data set has none set apart."""

import numpy as np

from experiments.data.dataset import DataError
from experiments.data.items import Items, Options

_SPLIT = 6  # a random stream apart from those of subsets.py and stripes.py


def divided(
    name: str, items: Items, class_names: tuple[str, ...], options: Options
) -> tuple[Items, Items]:
    """Divides images into those to train on and those to score, each class by the same share.

    Of every class at least one image is scored and one trained on. A share of 1 scores all.

    Args:
      name: of the data set.
      items: all its images.
      class_names: a name for each class.
      options: with the share and the seed.

    Returns:
      Both splits, each in the order of `items`.

    Raises:
      DataError: if a class has but one image.

    Example:
      Of 10 cats and 5 dogs, a share of 0.2 scores 2 and 1.
    """
    if options.test_share >= 1:
        return items.take(np.arange(0)), items
    generator = np.random.default_rng((_SPLIT, options.split_seed))
    scored = np.zeros(len(items), bool)
    for number, class_name in enumerate(class_names):
        members = np.flatnonzero(items.label == number)
        if len(members) == 1:
            raise DataError(
                f"The class {class_name!r} of {name!r} has one image, which cannot be both trained "
                "on and scored: add images, or set test images apart."
            )
        count = round(len(members) * options.test_share)
        drawn = generator.permutation(members)[: min(max(count, 1), len(members) - 1)]
        scored[drawn] = True
    return items.take(np.flatnonzero(~scored)), items.take(np.flatnonzero(scored))


def said(options: Options) -> str:
    """How the test images were drawn, in words."""
    return (
        f"The test images are {options.test_share:.0%} of each class, drawn by seed "
        f"{options.split_seed} (config.test_share, config.split_seed)."
    )
