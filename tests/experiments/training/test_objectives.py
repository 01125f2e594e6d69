"""Objectives of two players are read from expressions, and print as such."""

import pytest

from experiments.training.objectives import parse


@pytest.mark.parametrize(
    ("text", "shown", "of"),
    [
        ("wgan", "wgan(clip=0.01, critic_steps=5, many=100, rate=1.0)", "nothing"),
        ("wgan(penalty=10.0)", "wgan(penalty=10.0, critic_steps=5, many=5, rate=1.0)", "nothing"),
        (
            "wgan(each_class=True, many=3)",
            "wgan(clip=0.01, critic_steps=5, many=3, rate=1.0, each_class=True)",
            "networks",
        ),
        ("cgan()", "cgan(rate=1.0)", "labels"),
        ("acgan(rate=2.0)", "acgan(rate=2.0)", "labels"),
        ("infogan(weight=0)", "infogan(weight=0, labels=1.0, rate=5.0)", "labels"),
    ],
)
def test_an_expression_comes_back(text, shown, of):
    objective = parse(text)
    assert repr(objective) == shown
    assert repr(parse(shown)) == shown
    assert objective.of == of


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wgan(clip=0.01, penalty=1.0)", "a critic has a clip or a penalty"),
        ("wgan(clip=-0.01)", "clip in .* must be a positive number"),
        ("wgan(critic_steps=2.5)", "critic_steps in .* must be a whole number above 0"),
        ("cgan(each_class=True)", "is for wgan only"),
        ("cgan(weight=1.0)", "takes rate, but not weight"),
        ("gan()", "unknown objective"),
        ("wgan(0.01)", "cannot be read: write wgan"),
        ("infogan(weight='a')", "weight in .* must be a positive number"),
    ],
)
def test_another_is_one_sentence(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        parse(text)
    assert str(caught.value).count(". ") == 0
