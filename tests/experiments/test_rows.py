"""Keys by row: the same on any number of devices and parts, others for each row and layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from experiments import rows

ROOT, ROWS = jax.random.key(3), 16


def data(keys):
    return np.asarray(jax.random.key_data(keys))


def never():
    raise AssertionError("a layer's own key is not taken where rows are said")


def whole():
    with rows.spread(ROOT, rows.every(1, 0)):
        return data(rows.keys(never, 2, ROWS))


def test_every_row_and_layer_has_a_key_of_its_own():
    with rows.spread(ROOT, rows.every(1, 0)):
        layers = [data(rows.keys(never, layer, ROWS)) for layer in range(3)]
    assert len(np.unique(np.concatenate(layers), axis=0)) == 3 * ROWS


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_parts_have_the_keys_of_their_rows(parts):
    expected = whole().reshape(-1, parts, 2)
    for part in range(parts):
        with rows.spread(ROOT, rows.every(parts, part)):
            found = data(rows.keys(never, 2, ROWS // parts))
        np.testing.assert_array_equal(found, expected[:, part])


def test_devices_have_the_keys_of_their_rows():
    """In the nesting of training: a part's call of a device's network, whose key is salted."""
    parts = 2
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    shard = PartitionSpec("data")

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=shard, out_specs=shard)
    def on_device(x):
        def part(number):
            device = jax.lax.axis_index("data")
            with rows.spread(ROOT, rows.every(parts, number)):
                salted = jax.random.fold_in(ROOT, number)
                with rows.spread(salted, rows.block(device)):
                    keys = rows.keys(never, 2, len(x) // parts)
            return jax.random.key_data(keys)

        return jnp.stack([part(jnp.int32(p)) for p in range(parts)], 1).reshape(len(x), 2)

    np.testing.assert_array_equal(on_device(jnp.zeros(ROWS)), whole())


def test_where_nothing_is_said_the_layers_own_key_is_taken_and_left():
    own = jax.random.key(5)
    before = data(rows.keys(lambda: own, 2, 4))
    np.testing.assert_array_equal(
        before, data(jax.vmap(jax.random.fold_in, (None, 0))(own, np.arange(4)))
    )
    with pytest.raises(RuntimeError), rows.spread(ROOT, rows.block(0)):
        raise RuntimeError
    np.testing.assert_array_equal(data(rows.keys(lambda: own, 2, 4)), before)


def test_the_key_of_all_rows_is_of_the_outermost_and_is_that_of_no_row_or_other_layer():
    with rows.spread(ROOT, rows.every(2, 0)), rows.spread(jax.random.key(9), rows.block(1)):
        inner = [data(rows.shared(never, layer)) for layer in (0, 1)]
    with rows.spread(ROOT, rows.every(1, 0)):
        outer = [data(rows.shared(never, layer)) for layer in (0, 1)]
    np.testing.assert_array_equal(inner, outer)
    assert len(np.unique([*whole(), *inner], axis=0)) == ROWS + 2
