"""Tables by severity, and how pixels become 255ths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_same

from regjax.corruptions import levels


def test_a_table_by_a_traced_severity() -> None:
    table = [np.full((2, 3), i) for i in range(1, 6)]
    pick = jax.jit(lambda severity: levels.at_severity(table, severity))
    for severity in range(1, 6):
        assert_same(pick(severity), np.full((2, 3), severity, np.float32))
    assert pick._cache_size() == 1


def test_a_table_must_have_five_entries() -> None:
    with pytest.raises(ValueError, match="5 entries, not 4"):
        levels.at_severity((1, 2, 3, 4), jnp.array(1))


def test_whole_levels_stay_and_others_go_down_or_to_the_nearest() -> None:
    whole = np.arange(256)
    pixel = jnp.asarray(whole, jnp.float32) / 255
    for function, up in ((levels.truncated, 0), (levels.rounded, 1)):
        assert_same(np.rint(np.asarray(function(pixel)) * 255), whole.astype(np.float32))
        between = np.asarray(function(pixel + 0.6 / 255)) * 255
        assert_same(np.rint(between), np.minimum(whole + up, 255).astype(np.float32))
        assert_same(function(pixel - 1), np.zeros(256, np.float32))


def test_what_is_below_a_level_by_more_than_float32s_rounding_goes_down() -> None:
    """Such as the neighbours' share of a narrow filter, three ten-thousandths of a level."""
    pixel = np.arange(1, 256)
    below = levels.truncated(jnp.asarray((pixel - 3e-4) / 255, jnp.float32))
    assert_same(np.rint(np.asarray(below) * 255), np.float32(pixel - 1))
