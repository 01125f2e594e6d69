"""Spaces of a search: what they read, what they refuse, and what stands in the loss in the end."""

import jax
import numpy as np
import pytest

import regjax as rj
from experiments import ConfigError

optuna = pytest.importorskip("optuna")

from experiments.search import spaces  # noqa: E402

LOSS = (
    "cross_entropy | policy(sub={sub}, rate=0.9) | l2(weight={weight})"
    " | rand_augment(operations={count}, magnitude={m})"
)
SPACES = {
    "sub": "policy(subs=2)",
    "weight": "log(low=1e-5, high=0.1, start=0.001)",
    "count": "whole(low=1, high=3, start=2)",
    "m": "uniform(low=0, high=30, start=9)",
}


def made():
    return spaces.template({"searched": LOSS}, SPACES)[1]


def drawn(template, seed):
    """Parameters that a sampler may propose."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return study.ask(fixed_distributions=template.distributions()).params


def test_what_is_proposed_stands_in_the_loss_and_parses_back():
    template, weights, counts = made(), [], set()
    for seed in range(40):
        params = drawn(template, seed)
        loss = rj.parse(template.expression(params))
        assert rj.parse(repr(loss)) == loss
        _, policy, decay, augment = loss.stages
        assert len(policy.arguments["sub"]) == 2
        for i, (name, magnitude, _, _) in enumerate(policy.arguments["sub"]):
            assert name == params[f"sub.{i}.0.operation"]
            assert magnitude == pytest.approx(params[f"sub.{i}.0.magnitude"], abs=1e-9)
        assert decay.arguments["weight"] == pytest.approx(params["weight"], rel=1e-3)
        assert augment.arguments["magnitude"] == pytest.approx(params["m"], rel=1e-3, abs=1e-3)
        weights.append(decay.arguments["weight"])
        counts.add(augment.arguments["operations"])
    assert min(weights) >= 1e-5
    assert max(weights) <= 0.1
    assert counts == {1, 2, 3}
    assert 0.2 < np.mean(np.array(weights) < 1e-3) < 0.8  # by their logarithms


def test_the_start_is_the_config_as_it_stands():
    template = made()
    still = "(('rotate', 0.0, 'rotate', 0.0), ('rotate', 0.0, 'rotate', 0.0))"
    expected = LOSS.format(sub=still, weight=0.001, count=2, m=9.0)
    assert template.expression(template.start()) == expected
    losses = {"searched": "cross_entropy | l2(weight={weight})"}
    assert spaces.template(losses, {"weight": spaces.EXAMPLE})[1].start() is None


def test_policies_share_a_structure_once_they_are_arrays():
    from experiments.search.training import objective

    template = spaces.template({"a": "cross_entropy | policy(sub={sub})"}, {"sub": SPACES["sub"]})[
        1
    ]
    losses = [objective(template.expression(drawn(template, seed))) for seed in range(3)]
    assert len({jax.tree.structure(loss) for loss in losses}) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log(1e-3, 1.0)", "cannot be read: write a name with keyword arguments"),
        ("lg(low=1, high=2)", "there is no space 'lg'; there are: log, policy, uniform, whole"),
        ("log(low=1)", "log takes low, high, start, but it was given low"),
        ("log", "but it was given nothing"),
        ("log(low=1, high=2, step=1)", "but it was given low, high, step"),
        ("log(low=0, high=1)", "low below high and low above 0, but they are 0 and 1"),
        ("uniform(low=1, high=1)", "uniform needs low below high, but they are 1 and 1"),
        ("uniform(low='a', high=1)", "uniform is of numbers, but it was given 'a'"),
        ("whole(low=1, high=2.5)", "whole is of whole numbers, but it was given 2.5"),
        ("uniform(low=0, high=1, start=2)", "start must be between 0 and 1, but it is 2"),
        ("policy(subs=0)", "1 or more, but it is 0"),
        ("policy(subs=2.0)", "1 or more, but it is 2.0"),
        ("policy", "policy takes subs, but it was given nothing"),
        (3, "cannot be read|there is no space"),
    ],
)
def test_a_wrong_space_is_refused_in_a_sentence(text, said):
    with pytest.raises(ConfigError, match=f"config.search.spaces.weight: .*{said}") as error:
        spaces.read("weight", text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("losses", "given", "said"),
    [
        ({}, SPACES, "config.losses has 0"),
        ({"a": "cross_entropy", "b": "cross_entropy"}, SPACES, "config.losses has 2"),
        ({"a": "cross_entropy"}, {}, "must say what is searched"),
        ({"a": "cross_entropy"}, "log", "must say what is searched"),
        ({"a": "cross_entropy"}, {"m": SPACES["m"]}, "names 'm', but config.losses.a has no {m}"),
        ({"a": LOSS}, {"m": SPACES["m"]}, "has {sub}, but config.search.spaces has no 'sub'"),
    ],
)
def test_names_without_a_place_or_a_space_are_refused(losses, given, said):
    with pytest.raises(ConfigError, match=said):
        spaces.template(losses, given)
