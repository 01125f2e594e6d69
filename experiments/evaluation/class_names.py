"""Labels of one data set in the numbers of another, class by class of a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SHOWN = 20  # names that an error lists


def mapped_labels(
    label: np.ndarray,
    their_names: Sequence[str],
    our_names: Sequence[str],
    map: Mapping[str, Sequence[str]] | None = None,
) -> np.ndarray:
    """The labels as the networks number the classes.

    Args:
      label: ints, any shape, negative where there is none.
      their_names: of the classes that `label` numbers.
      our_names: of the networks' classes.
      map: by our names, theirs, each once; None for equal names.

    Returns:
      int32, the shape of `label`; -1 where a class of theirs is none of ours.

    Raises:
      ValueError: the map has an unknown name or one of theirs twice, or no name is equal.

    Example:
      `mapped_labels(np.array([0, 1, 2]), ("tabby", "oak", "dog"), ("cat", "dog"),
      {"cat": ("tabby",)})` is `[0, -1, -1]`.
    """
    if map is None:
        map = {name: (name,) for name in our_names if name in their_names}
        if not map:
            raise ValueError(
                f"no class has the same name here and there, {_listed(their_names)} there and "
                f"{_listed(our_names)} here: name them by map={{'ours': ('theirs', ...)}}."
            )
    number = np.full(len(their_names) + 1, -1, np.int32)  # the last for those without a label
    for ours, several in map.items():
        place = _place(ours, our_names, "of the networks")
        for theirs in several:
            at = _place(theirs, their_names, "of the data set")
            if number[at] >= 0:
                raise ValueError(f"map= names the class {theirs!r} of the data set twice.")
            number[at] = place
    # Wide first: -1 is no number of uint8, as labels may be.
    return number[np.maximum(label.astype(np.int32), -1)]


def _place(name: str, names: Sequence[str], whose: str) -> int:
    if name not in names:
        raise ValueError(f"map= names {name!r}, but the classes {whose} are: {_listed(names)}.")
    return list(names).index(name)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
