"""The published numbers that a config names, for the data set and the model that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.data.kinds import kind_of

# Mean and standard deviation by method and training size.
Paper = Mapping[tuple[str, int], tuple[float, float | None]]


def published(config: Mapping[str, Any]) -> Paper:
    """Returns the config's published (mean, standard deviation) by (method, training size).

    There are none where the data set or the model is another than theirs. "cityscapes:PATH" is the
    data set "cityscapes".

    Args:
      config: its "published" is `{method: {"train size": (mean, std)}}`, in the unit in which the
        main score is shown.
    """
    theirs, name = list(config.get("published_for", ())), config["dataset"]
    if theirs not in ([name, config["model"]], [kind_of(name), config["model"]]):
        return {}
    return {
        (method, int(size)): tuple(value)
        for method, sizes in config["published"].items()
        for size, value in sizes.items()
    }
