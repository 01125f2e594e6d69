"""What models may return, and the heads whose kernels a network names."""

import jax.numpy as jnp
import pytest
from support import assert_same

import regjax as rj
from regjax.core.outputs import read_output

X = jnp.arange(6.0).reshape(2, 3)
PARAMS = {"head": jnp.ones((3, 2)), "aside": jnp.full((3, 2), 2.0), "bias": jnp.ones(2)}


def test_logits_features_and_auxiliary_outputs() -> None:
    assert_same(read_output(X), rj.Outputs(X))
    assert_same(read_output((X, 2 * X)), rj.Outputs(X, 2 * X))
    auxiliary = (rj.Branch(X), rj.Branch(X, 2 * X), rj.Branch(X, 3 * X))
    out = (X, None, (X, (X, 2 * X), rj.Branch(X, 3 * X)))
    assert_same(read_output(out), rj.Outputs(X, auxiliary=auxiliary))


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (
            {"logits": X},
            r"must return logits, \(logits, features\), or .* it returned a dict\.$",
        ),
        ((X,), r"returned a tuple of 1\.$"),
        ((X, X, X), r"with a tuple of the auxiliary heads' own logits.*returned a tuple of 3\.$"),
        ((X, X, (X, "logits")), r"auxiliary outputs must be logits or .*, but one is a str\.$"),
    ],
)
def test_other_outputs_are_refused(out: object, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        read_output(out)


def test_the_kernels_of_all_heads() -> None:
    forward = rj.from_function(
        lambda params, x: (x @ params["head"], x, (x @ params["aside"] + params["bias"][None],)),
        PARAMS,
        head=lambda params: (params["head"], None),
        auxiliary=(lambda params: (params["aside"], params["bias"]),),
    )
    (aside,), outputs = forward.auxiliary_heads, forward(X)
    assert_same(aside, rj.Head(PARAMS["aside"], PARAMS["bias"]))
    assert_same(outputs.auxiliary, (rj.Branch(X @ aside.kernel + aside.bias[None]),))
    assert rj.from_function(lambda params, x: x, None).auxiliary_heads == ()
