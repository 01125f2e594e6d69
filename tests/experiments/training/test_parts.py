"""Learning rates by part: which parameters a name leads to, and names that lead nowhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training.parts import by_part

PARAMS = {
    "stem": {"kernel": jnp.ones((2, 2))},
    "stages": {0: {"conv": jnp.ones(2), "norm": jnp.ones(2)}, 1: {"conv": jnp.ones(2)}},
    "head": {"kernel": jnp.ones((2, 3), jnp.bfloat16), "bias": jnp.ones(3)},
    "head_2": jnp.ones(1),
}


def factors(parts):
    made = by_part(parts)
    updates, _ = made.update(PARAMS, made.init(PARAMS))
    for update, param in zip(jax.tree.leaves(updates), jax.tree.leaves(PARAMS), strict=True):
        assert (update.shape, update.dtype) == (param.shape, param.dtype)
        assert len(set(np.asarray(update, float).ravel())) == 1
    return jax.tree.map(lambda update: float(update.ravel()[0]), updates)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"head": 10.0}, (1, 1, 1, 1, 10, 10, 1)),
        ({"head.bias": 0}, (1, 1, 1, 1, 1, 0, 1)),
        ({"stages": 0.5}, (1, 0.5, 0.5, 0.5, 1, 1, 1)),
        ({"stages": 0.5, "stages.0": 2, "stages.0.norm": 4.0}, (1, 2, 4, 0.5, 1, 1, 1)),
        ({"stages.0.norm": 4.0, "stages.0": 2, "stages": 0.5}, (1, 2, 4, 0.5, 1, 1, 1)),
        ({"head_2": 3, "stem": 8}, (8, 1, 1, 1, 1, 1, 3)),
    ],
)
def test_the_longest_name_that_leads_to_a_parameter_counts(parts, expected):
    stem, conv_0, norm_0, conv_1, kernel, bias, head_2 = expected
    assert factors(parts) == {
        "stem": {"kernel": stem},
        "stages": {0: {"conv": conv_0, "norm": norm_0}, 1: {"conv": conv_1}},
        "head": {"kernel": kernel, "bias": bias},
        "head_2": head_2,
    }


def test_a_part_at_rate_zero_stays_as_it_is():
    made = optax.chain(optax.adam(0.1), by_part({"stages.0": 0.0}))
    updates, _ = made.update(PARAMS, made.init(PARAMS), PARAMS)
    after = optax.apply_updates(PARAMS, updates)
    np.testing.assert_array_equal(after["stages"][0]["conv"], 1)
    assert (after["stages"][1]["conv"] < 0.95).all()


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("haed", "there are: head, head_2, stages, stem."),
        ("hea", "there are: head, head_2, stages, stem."),
        ("", "there are: head, head_2, stages, stem."),
        ("head.", "in 'head' are: head.bias, head.kernel."),
        ("stages.2.conv", "in 'stages' are: stages.0, stages.1."),
        ("stages.0.relu", "in 'stages.0' are: stages.0.conv, stages.0.norm."),
        (3, "there are: head, head_2, stages, stem."),
    ],
)
def test_a_part_that_there_is_not_is_refused_with_those_that_there_are(part, says):
    made = by_part({"head": 2.0, part: 1.0})
    with pytest.raises(ValueError, match="by_part names") as error:
        jax.eval_shape(made.init, PARAMS)
    assert str(error.value) == f"by_part names {part!r}, which is no part of the network; {says}"


@pytest.mark.parametrize(
    "parts", [{}, None, ("head",), {"head": -1}, {"head": "a"}, {"head": True}, {"head": np.inf}]
)
def test_factors_that_are_none_are_refused(parts):
    with pytest.raises(ValueError, match="by_part needs parts=, a dict of factors by part of"):
        by_part(parts)
