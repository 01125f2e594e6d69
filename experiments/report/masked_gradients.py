"""A check of attacks: whether they do to every network what they must where they may do anything.

An attack that leaves more than chance although it may change every pixel by half the range does not
see what the network does: its gradients are masked, or its steps are too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from experiments.evaluation.perturbed import Perturbation
from experiments.report.perturbation_scores import Robustness
from experiments.runs.selection import amount

ITERATIVE = (
    "pgd",
    "mim",
    "apgd",
    "autoattack",
)  # the attacks that must mislead every network, given room
ALLOWED = 1.25  # times chance, which few images need not meet
CHECKED = 0.5  # of the pixels' range: an attack may do nearly anything


def gradients(found: Robustness, classes: int) -> Iterator[str]:
    """Yields a sentence for each attack that was given room, on what it leaves to the methods.

    Args:
      found: what was tested.
      classes: the number of classes.
    """
    for name, perturbation in found.perturbations.items():
        largest = max(perturbation.levels)
        left = _left(found, name, perturbation.levels.index(largest))
        if _must_mislead(perturbation) and largest >= CHECKED and left:
            yield _verdict(name, largest, 100 / classes, left)


def _must_mislead(perturbation: Perturbation) -> bool:
    norm = dict(perturbation.options).get("norm", "linf")
    return perturbation.kind in ITERATIVE and norm == "linf"


def _left(found: Robustness, name: str, i: int) -> dict[str, float]:
    """The accuracy at a level, by method."""
    mine = [tested for tested in found.tested.values() if tested.name == name]
    several = len({tested.train_size for tested in mine}) > 1
    return {t.method + (f" ({amount(t.train_size)})" if several else ""): t.mean[i] for t in mine}


def _verdict(name: str, epsilon: float, chance: float, left: Mapping[str, float]) -> str:
    test = f"Masked gradients: {name} with epsilon {epsilon:g} (chance is {chance:.3g} %) leaves"
    above = {method: mean for method, mean in left.items() if mean > ALLOWED * chance}
    if not above:
        return f"{test} at most {max(left.values()):.1f} % to any method: no sign of them."
    named = ", ".join(f"{mean:.1f} % to {method}" for method, mean in above.items())
    return (
        f"{test} {named}: the attack does not see what these networks do, so its numbers mislead."
    )
