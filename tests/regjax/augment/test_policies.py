"""AutoAugment's policies, against another transcript of the published tables."""

import pytest

from regjax.augment.magnitudes import NAMES
from regjax.augment.policies import POLICIES, policy

PUBLISHED = {
    "cifar10": """
        invert .1 7, contrast .2 6
        rotate .7 2, translatex .3 9
        sharpness .8 1, sharpness .9 3
        sheary .5 8, translatey .7 9
        autocontrast .5 8, equalize .9 2
        sheary .2 7, posterize .3 7
        color .4 3, brightness .6 7
        sharpness .3 9, brightness .7 9
        equalize .6 5, equalize .5 1
        contrast .6 7, sharpness .6 5
        color .7 7, translatex .5 8
        equalize .3 7, autocontrast .4 8
        translatey .4 3, sharpness .2 6
        brightness .9 6, color .2 8
        solarize .5 2, invert .0 3
        equalize .2 0, autocontrast .6 0
        equalize .2 8, equalize .6 4
        color .9 9, equalize .6 6
        autocontrast .8 4, solarize .2 8
        brightness .1 3, color .7 0
        solarize .4 5, autocontrast .9 3
        translatey .9 9, translatey .7 9
        autocontrast .9 2, solarize .8 3
        equalize .8 8, invert .1 3
        translatey .7 9, autocontrast .9 1
    """,
    "svhn": """
        shearx .9 4, invert .2 3
        sheary .9 8, invert .7 5
        equalize .6 5, solarize .6 6
        invert .9 3, equalize .6 3
        equalize .6 1, rotate .9 3
        shearx .9 4, autocontrast .8 3
        sheary .9 8, invert .4 5
        sheary .9 5, solarize .2 6
        invert .9 6, autocontrast .8 1
        equalize .6 3, rotate .9 3
        shearx .9 4, solarize .3 3
        sheary .8 8, invert .7 4
        equalize .9 5, translatey .6 6
        invert .9 4, equalize .6 7
        contrast .3 3, rotate .8 4
        invert .8 5, translatey .0 2
        sheary .7 6, solarize .4 8
        invert .6 4, rotate .8 4
        sheary .3 7, translatex .9 3
        shearx .1 6, invert .6 5
        solarize .7 2, translatey .6 7
        sheary .8 4, invert .8 8
        shearx .7 9, translatey .8 3
        sheary .8 5, autocontrast .7 3
        shearx .7 2, invert .1 5
    """,
    "imagenet": """
        posterize .4 8, rotate .6 9
        solarize .6 5, autocontrast .6 5
        equalize .8 8, equalize .6 3
        posterize .6 7, posterize .6 6
        equalize .4 7, solarize .2 4
        equalize .4 4, rotate .8 8
        solarize .6 3, equalize .6 7
        posterize .8 5, equalize 1 2
        rotate .2 3, solarize .6 8
        equalize .6 8, posterize .4 6
        rotate .8 8, color .4 0
        rotate .4 9, equalize .6 2
        equalize .0 7, equalize .8 8
        invert .6 4, equalize 1 8
        color .6 4, contrast 1 8
        rotate .8 8, color 1 2
        color .8 8, solarize .8 7
        sharpness .4 7, invert .6 8
        shearx .6 5, equalize 1 9
        color .4 0, equalize .6 3
        equalize .4 7, solarize .2 4
        solarize .6 5, autocontrast .6 5
        invert .6 4, equalize 1 8
        color .6 4, contrast 1 8
        equalize .8 8, equalize .6 3
    """,
}


def transcript(name: str) -> list[list[tuple[str, float, int]]]:
    pairs = []
    for line in PUBLISHED[name].strip().splitlines():
        steps = [step.split() for step in line.split(",")]
        pairs.append([(step, float(chance), int(level)) for step, chance, level in steps])
    return pairs


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_the_published_ones(name: str) -> None:
    for pair, expected in zip(policy(name, False), transcript(name), strict=True):
        assert [(step.replace("_", ""), *rest) for step, *rest in pair] == expected
        assert {step for step, *_ in pair} <= {*NAMES}
    assert len(policy(name, False)) == 25


def test_the_program_has_another_chance_in_its_seventeenth_pair() -> None:
    paper, program = policy("cifar10", False), policy("cifar10", True)
    assert [i for i in range(25) if paper[i] != program[i]] == [16]
    assert paper[16] == (("equalize", 0.2, 8), ("equalize", 0.6, 4))
    assert program[16] == (("equalize", 0.2, 8), ("equalize", 0.8, 4))
    assert all(policy(name, True) == policy(name, False) for name in ("svhn", "imagenet"))


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"one of 'cifar10', 'svhn', 'imagenet', but it is 'cifar'"
    ):
        policy("cifar", False)
