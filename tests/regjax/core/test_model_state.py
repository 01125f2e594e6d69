"""State is what was bound: what a call adds is left out, what grows is refused."""

import jax.numpy as jnp
import pytest

from regjax.core.model_state import kept


def test_what_a_call_adds_is_left_out() -> None:
    bound = {"norm": {"mean": 0.0}}
    updated = {"norm": {"mean": 1.0, "seen": 2.0}, "extra": 3.0}
    assert kept(bound, updated) == {"norm": {"mean": 1.0}}
    assert kept((), ()) == ()
    assert kept((1.0,), (2.0,)) == (2.0,)


def test_what_changes_its_shape_is_refused() -> None:
    for bound, updated, words in [
        ({"seen": (jnp.ones(2),)}, {"seen": (jnp.ones(2), jnp.ones(2))}, r"seen\.1 was not there"),
        ({"seen": jnp.ones(2)}, {"seen": jnp.ones(3)}, r"seen was \(2,\) and is \(3,\)"),
        ({"a": {"mean": jnp.ones(2)}}, {}, r"a\.mean was \(2,\) and is not there"),
        (jnp.ones(2), jnp.ones(3), r"but it was \(2,\) and is \(3,\)"),
    ]:
        with pytest.raises(ValueError, match=words) as caught:
            kept(bound, updated)
        assert "\n" not in str(caught.value)
