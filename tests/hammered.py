"""Support for tests that hammer a reader with thousands of wrong inputs.

Each runs on some inputs, always the same ones; `conftest.py` says how many.
"""

import string

from hypothesis import strategies as st

# What Python and its libraries say of a value that nobody has looked at.
INTERNAL = (
    "positional argument",
    "object is not",
    "unhashable",
    "has no attribute",
    "unsupported operand",
    "not supported between",
    "unexpected keyword",
    "Traceback",
)

names = st.text(string.ascii_letters + string.digits + "_.é {}", max_size=12)
numbers = st.one_of(
    st.sampled_from([0, 1, -1, 0.5, 2.0, 2**31, 2**63, 10**400, 1e38, 1e39, 1e308, -0.0, 1e-320]),
    st.integers(),
    st.floats(),
    st.booleans(),
)
plain = st.one_of(st.none(), numbers, names, st.text(max_size=20))
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(names, inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def damaged(draw, text: bytes) -> bytes:
    """What is left of some bytes: some are flipped, cut out, doubled or put in."""
    found = bytearray(text)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(found) - 1, 0)))
        end = place + draw(st.sampled_from([1, 1, 1, 4, 64, len(text)]))
        change = draw(st.sampled_from(["flip", "cut", "double", "insert", "end"]))
        if change == "flip" and found:
            found[place] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del found[place:end]
        elif change == "double":
            found[place:place] = found[place:end]
        elif change == "insert":
            found[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            del found[place:]
    return bytes(found)


def assert_one_sentence(error: Exception, says: str = "") -> None:
    """Asserts that an error is what a user can read, not what Python says, and says something."""
    text = str(error)
    assert text.strip(), repr(error)
    assert says in text, text
    assert "\n" not in text, text
    assert len(text) < 4_000, text
    assert not any(words in text for words in INTERNAL), text
