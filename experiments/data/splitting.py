"""What a data set calls its splits, and test images drawn by a seed where none are set apart."""

from collections.abc import Iterable, Mapping

import numpy as np

from experiments.data.dataset import DataError
from experiments.data.items import Items, Opened, Options

# The names of a split, in small letters, in the order in which splits are opened.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid"),
}

_LISTED = 10
_SPLIT = 6  # a random stream apart from those of subsets.py and stripes.py


def named(where: str, names: Iterable[str]) -> dict[str, str]:
    """The names that stand for splits, by the split, in the order of `SPLITS`.

    Args:
      where: what the data set is called in an error.
      names: all that there are.

    Raises:
      DataError: if two stand for one split.

    Example:
      `named("pets", ["Val", "train", "more"])` is `{"train": "train", "validation": "Val"}`.
    """
    given = sorted(names)
    found = {
        split: [name for name in given if name.lower() in known] for split, known in SPLITS.items()
    }
    for split, several in found.items():
        if len(several) > 1:
            raise DataError(
                f"{where} has {' and '.join(map(repr, several))}, which both name the {split} "
                "split: leave one of them out."
            )
    return {split: several[0] for split, several in found.items() if several}


def left_out(what: str, names: Iterable[str]) -> tuple[str, ...]:
    """A note of what is there and not looked at; none where there is nothing."""
    listed = ", ".join(map(repr, sorted(names)[:_LISTED]))
    return (f"Left out {what}: {listed}.",) if listed else ()


def opened(
    name: str,
    splits: Mapping[str, Items],
    class_names: tuple[str, ...],
    options: Options,
    notes: tuple[str, ...] = (),
) -> Opened:
    """A data set of the splits that there are.

    Args:
      name: of the data set.
      splits: "train" and those that there are, in the order of `SPLITS`; without others a share of
        it is scored.
      class_names: a name for each class.
      options: with that share, and the seed.
      notes: sentences about what was found.

    Raises:
      DataError: as in `divided`.
    """
    train, *rest = splits.values()
    if not rest:
        parts = divided(name, train, class_names, options)
        return Opened(name, *parts, class_names, "test", (said(options), *notes))
    scored = list(splits)[1]
    validation = rest[1] if len(rest) > 1 else None
    return Opened(name, train, rest[0], class_names, scored, notes, validation)


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
