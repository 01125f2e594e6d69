"""Bars that say how far a command is."""

from tqdm import tqdm

from experiments.training import devices


def progress(total: int, unit: str) -> tqdm:
    """A bar, which the first process shows."""
    # Not shown before the first steps, so that what is wrong until then is all that is said.
    return tqdm(
        total=total,
        unit=unit,
        delay=1e-3,
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not devices.is_first() or not total,
        leave=unit == "step",
    )
