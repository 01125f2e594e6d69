"""The readers of expressions: any text is a loss that prints as it is read, or one clear error."""

from hammered import assert_one_sentence, names, values
from hypothesis import given
from hypothesis import strategies as st

import regjax as rj
from regjax.core.calls import CallError, read_call, read_named
from regjax.core.stages import REGISTRY

VALID = (
    "cross_entropy | mixup(alpha=1.0) | double_backprop(weight=0.01)",
    "isda(strength=0.5, covariance='full') | noise_injection(sigma=0.1)",
    "cross_entropy | noisy_feature_mixup(alpha=1, add=.4, multiply=.2, layers=('input', 'conv'))",
)


@st.composite
def calls(draw):
    known = draw(st.sampled_from(sorted(REGISTRY)))
    arguments = sorted(REGISTRY[known].arguments)
    name = draw(st.one_of(st.just(known), st.just(known), names))
    some = st.lists(st.one_of(st.sampled_from(arguments or ["x"]), names), max_size=4)
    texts = [f"{argument}={draw(values)!r}" for argument in draw(some)]
    return f"{name}({', '.join(texts)})" if texts or draw(st.booleans()) else name


@st.composite
def changed(draw):
    text = list(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text) - 1))
        text[place] = draw(st.one_of(st.just(""), st.characters(), st.sampled_from("()|=,'.-*[{")))
    return "".join(text)


bases = st.sampled_from(["cross_entropy", "isda(strength=1.0)", "", "("])
chains = st.builds(lambda *links: " | ".join(links), bases, calls(), calls())
expressions = st.one_of(st.text(), chains, changed(), calls())


@given(expressions)
def test_an_expression_is_a_loss_that_prints_as_it_reads_or_one_clear_error(text):
    try:
        loss = rj.parse(text)
    except (ValueError, TypeError) as error:
        assert_one_sentence(error)
    else:
        assert rj.parse(repr(loss)) == loss, repr(loss)


@given(expressions)
def test_a_call_is_a_name_with_literals_or_one_clear_error(text):
    try:
        name, found = read_call(text)
    except CallError as error:
        assert_one_sentence(error)
    else:
        assert name.isidentifier()
        assert all(map(str.isidentifier, found))
    try:
        read_named(text, "schedule", "cosine")
    except ValueError as error:
        assert_one_sentence(error)


def test_long_and_deep_expressions_end_in_an_error_or_a_loss():
    for text in ("(" * 100_000, "a|" * 50_000 + "a", "x" * 1_000_000, "cross_entropy(" * 1000):
        try:
            rj.parse(text)
        except ValueError as error:
            assert_one_sentence(error)
